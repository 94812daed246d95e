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


_T5_SIZES = ("small", "base", "large", "xl", "xxl")
_SIZES = {
    **dict.fromkeys(("byt5", "flan_t5", "mt5", "t5_1_1", "t5_1_1_lm100k"), _T5_SIZES),
    "decoder": ("tiny",),
    "llama2": ("7b",),
    "llama3": ("8b",),
    "qwen2": ("0_5b", "1_5b", "7b"),
    "smollm2": ("135m", "360m", "1_7b"),
    "t5_1_0": ("small", "base", "large", "3b", "11b"),
    "umt5": ("small", "base", "xl", "xxl"),
}
# Former include paths; the parser of gin files names the new ones.
FORMER_GIN_FILES = {
    **{
        f"models/{family}_{size}.gin": f"models/{family}/{size}.gin"
        for family, sizes in _SIZES.items()
        for size in sizes
    },
    **{
        f"models/{family}.gin": f"models/{family}/common.gin"
        for family in ("byt5", "decoder", "mt5", "t5_1_0", "t5_1_1", "umt5")
    },
    "models/t5_sample.gin": "models/t5_1_1/sample.gin",
    "models/t5_tiny.gin": "models/t5_1_1/tiny.gin",
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
