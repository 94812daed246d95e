"""A tiny T5 of random weights, the passages that every framework ranks, and how `Reranker` ranks them."""

from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from exaranker import Reranker, models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.store import save_model
from exaranker.files.shipped import shipped
from exaranker.models.t5 import T5Config
from exaranker.rank.reranker import RankedPassage
from exaranker.templates import EXARANKER
from exaranker.texts.rows import iter_texts
from exaranker.tokenization import load_tokenizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    sizes = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 48}
    config = T5Config(4096, num_encoder_layers=1, num_decoder_layers=1, dtype="float32", **sizes)
    tokenizer = load_tokenizer(shipped("examples/sample") / "spiece.model")
    batch = dict.fromkeys(("encoder_input_tokens", "decoder_input_tokens"), np.ones((1, 8), np.int32))
    params = nn.meta.unbox(models.build(config).init(jax.random.key(0), batch)["params"])
    save_model(directory, ModelCard(config, EXARANKER, tokenizer.digest), params, tokenizer)
    return directory


@pytest.fixture(scope="session")
def reranker(checkpoint: Path) -> Reranker:
    return Reranker.from_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def query() -> str:
    return "how do bees make honey"


@pytest.fixture(scope="session")
def passages() -> list[str]:
    """The sample's first 20."""
    texts = iter_texts(shipped("examples/sample") / "passages.tsv")
    return [text for _, (_, text) in zip(range(20), texts, strict=False)]


@pytest.fixture(scope="session")
def ranking(reranker: Reranker, query: str, passages: list[str]) -> list[RankedPassage]:
    """Best first; the best two are explained."""
    return reranker.rank(query, passages, explain=2)
