"""One tiny checkpoint per family, saved as training saves it, and a collection of a few passages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from exaranker import models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.store import save_model
from exaranker.files.shipped import shipped
from exaranker.models.decoder import DecoderConfig
from exaranker.models.t5 import T5Config
from exaranker.templates import TEMPLATES, Template
from exaranker.tokenization import load_tokenizer

TINY: dict[str, Any] = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 48, "dtype": "float32"}
FAMILIES: dict[str, tuple[models.ModelConfig, str]] = {
    "t5": (T5Config(vocab_size=4096, num_encoder_layers=2, num_decoder_layers=2, **TINY), "exaranker"),
    "decoder": (DecoderConfig(vocab_size=4096, num_kv_heads=1, num_layers=2, **TINY), "decoder"),
}

QUERIES = {"q1": "how do bees make honey", "q2": "where does the nile begin"}
PASSAGES = {
    "p1": "Worker bees turn nectar into honey in the comb.",
    "p2": "The Nile begins south of the equator, in the highlands of Burundi and Rwanda. " * 6,
    "p3": "A capo presses the strings of a guitar down.",
    "p4": "",
    "p5": "Bees dance. " * 20,
    "p6": "Rivers end in seas or lakes, and a few of them end in deserts.",
    "unused": "No run names this passage.",
}


def save_tiny(directory: Path, config: models.ModelConfig, template: Template, seed: int = 0) -> Path:
    """A model of random weights with the sample's vocabulary."""
    tokenizer = load_tokenizer(shipped("examples/sample") / "spiece.model")
    tokens = np.ones((1, 8), np.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    params = nn.meta.unbox(models.build(config).init(jax.random.key(seed), batch)["params"])
    save_model(directory, ModelCard(config, template, tokenizer.digest), params, tokenizer)
    return directory


@pytest.fixture(scope="session")
def save_as() -> Callable[[Path, models.ModelConfig], Path]:
    """Saves a model of random weights for a configuration, with its family's template."""

    def save(directory: Path, config: models.ModelConfig) -> Path:
        template = "decoder" if models.family_of(config).is_decoder_only else "exaranker"
        return save_tiny(directory, config, TEMPLATES[template])

    return save


@pytest.fixture(scope="session", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, template = FAMILIES[request.param]
    return save_tiny(tmp_path_factory.mktemp(request.param), config, TEMPLATES[template])


@pytest.fixture(scope="session")
def t5_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, template = FAMILIES["t5"]
    return save_tiny(tmp_path_factory.mktemp("t5_only"), config, TEMPLATES[template])


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """queries.tsv, passages.tsv and run.trec in a folder of their own."""
    (tmp_path / "queries.tsv").write_text("".join(f"{k}\t{v}\n" for k, v in QUERIES.items()))
    (tmp_path / "passages.tsv").write_text("".join(f"{k}\t{v}\n" for k, v in PASSAGES.items()))
    docs = {"q1": ["p1", "p5", "p3", "p4"], "q2": ["p2", "p6", "p1"]}
    rows = [
        f"{query} Q0 {doc} {rank} {9 - rank} bm25\n"
        for query, listed in docs.items()
        for rank, doc in enumerate(listed, 1)
    ]
    (tmp_path / "run.trec").write_text("".join(rows))
    return tmp_path
