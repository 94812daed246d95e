"""Former module paths, which gin files and scripts of version 0.1 may still name, and what they are called now."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "exaranker.batches": "exaranker.train.batches",
    "exaranker.convert": "exaranker.checkpoints.convert",
    "exaranker.optimizers": "exaranker.train.optimizers",
    "exaranker.partitioning": "exaranker.devices.mesh",
    "exaranker.rerank": "exaranker.rank.job",
    "exaranker.reranker": "exaranker.rank.reranker",
    "exaranker.retrieve": "exaranker.rank.bm25",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the module of the new name in place of the former one: both names are then the same module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def keep_former_names() -> None:
    """Makes `import exaranker.reranker` and its like give today's module."""
    sys.meta_path.append(_Finder())
