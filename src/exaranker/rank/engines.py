"""Which library computes the scores of a checkpoint."""

from pathlib import Path

import numpy as np
from jaxtyping import Array, Float32

from exaranker.errors import InputError, nearest
from exaranker.rank.ctranslate2_model import CTranslate2Model
from exaranker.rank.loaded_model import LoadedModel

ENGINES: dict[str, type[LoadedModel] | type[CTranslate2Model]] = {"jax": LoadedModel, "ctranslate2": CTranslate2Model}
RankingModel = LoadedModel | CTranslate2Model
LogOdds = Float32[Array, " rows"] | Float32[np.ndarray, " rows"]  # of a batch; JAX's are waited for when they are read


def load_model(
    directory: str | Path, engine: str | None = None, dtype: str | None = None, base: str | Path | None = None
) -> RankingModel:
    """Loads a checkpoint with `engine`: by default CTranslate2 for int8, which JAX does not have, and JAX for all else.

    Raises:
        InputError: there is no such engine, it does not have the type, or the checkpoint cannot be loaded.
    """
    engine = engine or ("ctranslate2" if dtype == "int8" else "jax")
    if engine not in ENGINES:
        raise InputError(f"no engine {engine!r}", hint=nearest(engine, ENGINES))
    if engine == "jax" and dtype == "int8":
        raise InputError("JAX has no int8 products here", hint="give --engine ctranslate2, or --dtype float32")
    return ENGINES[engine].from_checkpoint(directory, dtype, base)
