"""The examples in docstrings are executed, in a folder that has the files they name: a dataset and a model."""

import doctest
import importlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOTS = ("exaranker", "exaranker.preprocess", "exaranker.tasks")
TINY: dict[str, Any] = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 48, "dtype": "float32"}


def modules_with_examples() -> Iterator[str]:
    """Names of all modules whose text has an example, found without importing them."""
    for root in ROOTS:
        folder = Path(importlib.import_module(root).__path__[0])
        for path in sorted(folder.rglob("*.py")):
            if re.search(r"^ *>>> ", path.read_text(), re.MULTILINE):
                yield ".".join([root, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")


@pytest.fixture(scope="module")
def folder(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder: `out/model`, `out/explanations` and `spiece.model`; no tasks are left behind."""
    import seqio

    before = os.getcwd(), set(seqio.TaskRegistry.names()), set(seqio.MixtureRegistry.names())
    os.chdir(tmp_path_factory.mktemp("docstrings"))
    shutil.copytree(dataset, "out/explanations")
    save_model_to(Path("out/model"))
    yield Path.cwd()
    os.chdir(before[0])
    for registry, names in zip((seqio.TaskRegistry, seqio.MixtureRegistry), before[1:], strict=True):
        for name in set(registry.names()) - names:
            registry.remove(name)


def save_model_to(directory: Path) -> None:
    """A random T5 with the sample's vocabulary, which is put into the current folder."""
    import flax.linen as nn
    import jax
    import numpy as np

    from exaranker import models
    from exaranker.checkpoints.card import ModelCard
    from exaranker.checkpoints.store import save_model
    from exaranker.files.shipped import shipped
    from exaranker.models.t5 import T5Config
    from exaranker.templates import TEMPLATES
    from exaranker.tokenization import load_tokenizer

    shutil.copyfile(shipped("examples/sample") / "spiece.model", "spiece.model")
    config = T5Config(vocab_size=4096, num_encoder_layers=1, num_decoder_layers=1, **TINY)
    tokenizer = load_tokenizer("spiece.model")
    batch = dict.fromkeys(("encoder_input_tokens", "decoder_input_tokens"), np.ones((1, 8), np.int32))
    params = nn.meta.unbox(models.build(config).init(jax.random.key(0), batch)["params"])
    save_model(directory, ModelCard(config, TEMPLATES["exaranker"], tokenizer.digest), params, tokenizer)


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples_of(name: str, folder: Path) -> None:
    module = importlib.import_module(name)
    attempted = 0
    for found in doctest.DocTestFinder(exclude_empty=True).find(module):
        report: list[str] = []
        result = doctest.DocTestRunner().run(found, out=report.append)
        assert result.failed == 0, "".join(report)
        attempted += result.attempted
    assert attempted == written_in(Path(module.__file__ or "")), "an example that doctest does not find"


def written_in(path: Path) -> int:
    """Lines that begin an example, whether doctest finds their docstrings or not."""
    return len(re.findall(r"^ *>>> ", path.read_text(), re.MULTILINE))
