"""Which library computes the scores of a checkpoint."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float32

from exaranker.checkpoints.convert.ctranslate2 import is_convertible
from exaranker.checkpoints.folder import PREFIX, find_checkpoint, read_card
from exaranker.devices.processor import fitting_dtype
from exaranker.errors import InputError, nearest
from exaranker.rank.ctranslate2_model import CTranslate2Model
from exaranker.rank.loaded_model import LoadedModel

RankingModel = LoadedModel | CTranslate2Model
RANKING_ENGINES: dict[str, type[RankingModel]] = {"jax": LoadedModel, "ctranslate2": CTranslate2Model}
LogOdds = Float32[Array, " rows"] | Float32[np.ndarray, " rows"]  # of a batch; JAX's are waited for when they are read


def load_model(
    directory: str | Path, engine: str | None = None, dtype: str | None = None, base: str | Path | None = None
) -> RankingModel:
    """Loads a checkpoint with `engine`, by default with what fits the type and the processor (`fitting_engine`).

    Raises:
        InputError: there is no such engine, it does not have the type, or the checkpoint cannot be loaded.
    """
    engine = engine or fitting_engine(directory, dtype)
    if engine not in RANKING_ENGINES:
        raise InputError(f"no engine {engine!r}", hint=nearest(engine, RANKING_ENGINES))
    if engine == "jax" and dtype == "int8":
        raise InputError("JAX has no int8 products here", hint="give --engine ctranslate2, or --dtype float32")
    return RANKING_ENGINES[engine].from_checkpoint(directory, dtype, base)


def fitting_engine(directory: str | Path, dtype: str | None) -> str:
    """CTranslate2 for int8, and for a checkpoint that has to run in fp32 as the processor has no units for its bf16.

    JAX for all else: with such units, on accelerators and several devices, for a type that is asked for, and for models
    that CTranslate2 does not compute or when it is not installed. In fp32 CTranslate2 takes 0.75 to 0.91 of JAX's CPU
    time (benchmarks/RESULTS.md).

    Raises:
        InputError: there is no complete checkpoint.
    """
    if dtype is not None:
        return "ctranslate2" if dtype == "int8" else "jax"
    model_dir, step = find_checkpoint(directory)
    card = read_card(model_dir / f"{PREFIX}_{step}")
    devices = jax.local_devices()
    is_emulated = fitting_dtype(devices[0], card.config.dtype) != card.config.dtype
    return "ctranslate2" if is_emulated and len(devices) == 1 and is_convertible(card, "float32") else "jax"
