"""A tiny checkpoint, real servers of it in processes of their own, and how `Reranker` ranks the same passages."""

import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
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

Start = Callable[..., contextlib.AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served") / "tiny"
    sizes = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 48}
    config = T5Config(4096, num_encoder_layers=1, num_decoder_layers=1, dtype="float32", **sizes)
    tokenizer = load_tokenizer(shipped("examples/sample") / "spiece.model")
    batch = dict.fromkeys(("encoder_input_tokens", "decoder_input_tokens"), np.ones((1, 8), np.int32))
    params = nn.meta.unbox(models.build(config).init(jax.random.key(0), batch)["params"])
    save_model(directory, ModelCard(config, EXARANKER, tokenizer.digest), params, tokenizer)
    return directory


@pytest.fixture(scope="session")
def start(checkpoint: Path) -> Start:
    """Starts `exaranker serve` with more words; gives its URL and its process, which is ended and must end well."""

    @contextlib.contextmanager
    def run(*words: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
        command = [sys.executable, "-m", "exaranker.cli", "serve", f"--checkpoint={checkpoint}", "--port=0", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            try:
                yield said.split()[3], process
            finally:
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, "")

    return run


@pytest.fixture(scope="session")
def served(start: Start) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server with its defaults."""
    with start() as (address, process):
        yield address, process


@pytest.fixture(scope="session")
def url(served: tuple[str, "subprocess.Popen[str]"]) -> str:
    return served[0]


@pytest.fixture(scope="session")
def reranker(checkpoint: Path) -> Reranker:
    return Reranker.from_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def query() -> str:
    return "how do bees make honey"


@pytest.fixture(scope="session")
def passages() -> list[str]:
    """The sample's first 100."""
    texts = iter_texts(shipped("examples/sample") / "passages.tsv")
    return [text for _, text in itertools.islice(texts, 100)]


@pytest.fixture(scope="session")
def ranking(reranker: Reranker, query: str, passages: list[str]) -> list[RankedPassage]:
    """What every client must get, best first; the best two are explained."""
    return reranker.rank(query, passages, explain=2)
