"""Where the folders that ship with the project are: beside the code, in a checkout and in an installed wheel alike."""

import importlib.util
from pathlib import Path


def shipped(folder: str) -> Path:
    """The folder `gin`, `t5x_configs` or `examples/sample`.

    `exaranker.tasks` is ROOT/tasks in a checkout, site-packages/exaranker/tasks in a wheel: the folder is beside it.
    """
    spec = importlib.util.find_spec("exaranker.tasks")
    if spec is None or spec.origin is None:
        raise ImportError("exaranker is not installed: run `make setup`")
    return Path(spec.origin).parents[1] / folder
