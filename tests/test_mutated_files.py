"""300 mutated files that commands open whole: each is refused in one line, or loads, never with another exception.

What has a digest or a checksum loads as it was saved; of the others the shape of what is loaded is looked at.
"""

import argparse
import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSeq2SeqLM, T5Config

from exaranker import schema
from exaranker.checkpoints.convert.huggingface import read_huggingface
from exaranker.checkpoints.convert.tensors import to_tensors
from exaranker.cli import main
from exaranker.errors import InputError
from exaranker.evaluate import report, trec_eval
from exaranker.evaluate.expected import read_conditions
from exaranker.evaluate.results import read_results
from exaranker.files.shipped import shipped
from exaranker.gin_config import configure
from exaranker.preprocess.gin_config import NAMES, RUN_FILE, ExplainConfig
from exaranker.preprocess.inspect.inspection import inspect
from exaranker.preprocess.inspect.page import page
from exaranker.preprocess.prompts.prompter import load_style
from exaranker.resume import Partial, chunked
from exaranker.tokenization import load_tokenizer

FILES = 300
HOSTILE: list[Any] = [None, [], {}, "", "x", -1, 10**30, 1.5, True, float("nan"), "../x", "\ud800", [[[]]]]
TEXT = "Is it so? Yes, 1,234.5!"


class Opened(NamedTuple):
    """A file in its folder, what opens it, and whether that gives what was saved or an error."""

    name: str
    load: Callable[[Path], Any]
    exact: bool = True


def dataset_rows(folder: Path) -> Any:
    """What training reads, once `inspect` has shown it."""
    page(inspect(folder))
    return [row for path in schema.shard_paths(folder) for row in schema.read_shard(path)]


def tensors(folder: Path) -> Any:
    config, params = read_huggingface(folder)
    found = to_tensors(params)
    assert all(np.isfinite(tensor).all() for tensor in found.values())
    return config


def ids(folder: Path) -> Any:
    tokenizer = load_tokenizer(folder)
    found = tokenizer.encode(TEXT)
    assert all(isinstance(number, int) for number in (*found, tokenizer.eos_id))
    return tokenizer.decode(found)


def prompt(folder: Path) -> Any:
    style = load_style(str(folder / "prompt.yaml"))
    return style.render_item("a question", "a passage", True), style.texts, style.sections


def conditions(folder: Path) -> Any:
    """None of their words is anything but text."""
    found = read_conditions(folder / "expected.yaml")
    assert all(isinstance(word, str) for one in found for word in (one.name, one.run, *one.commands))
    assert all(math.isfinite(number) for one in found for number in (one.expected, one.tolerance))
    return found


def gin(folder: Path) -> Any:
    words = argparse.Namespace(gin_file=[str(folder / "run.gin")], gin_bindings=[], gin_search_paths="gin")
    return configure(ExplainConfig, words, first=RUN_FILE, names=NAMES).config


def report_page(folder: Path) -> Any:
    return report.render([read_results(folder / "results.json")], report.Extras("title", "2026-01-02"))


def partial_rows(folder: Path) -> Any:
    partial = Partial(folder / "run.trec", "job")
    return list(partial.map(lambda rows, _: list(rows), chunked(range(9), 3), identity=int, desc="test", unit="row"))


SHARD = "explanations-00000-of-00002.tfrecord"
OPENED = {
    "manifest.json": Opened("dataset/manifest.json", dataset_rows),
    "run.json": Opened("dataset/run.json", dataset_rows),
    "a shard": Opened(f"dataset/{SHARD}", dataset_rows),
    "config.json": Opened("hf/config.json", tensors, exact=False),
    "model.safetensors": Opened("hf/model.safetensors", tensors),
    "pytorch_model.bin": Opened("torch/pytorch_model.bin", tensors),
    "tokenizer.json": Opened("json/tokenizer.json", ids, exact=False),
    "tokenizer_config.json": Opened("json/tokenizer_config.json", ids),
    "spiece.model": Opened("spiece/spiece.model", ids, exact=False),
    "a prompt": Opened("texts/prompt.yaml", prompt, exact=False),
    "a gin file": Opened("texts/run.gin", gin, exact=False),
    "expected.yaml": Opened("texts/expected.yaml", conditions, exact=False),
    "results.json": Opened("results/results.json", report_page, exact=False),
    "a partial file": Opened("texts/run.trec.partial", partial_rows),
}
GIN = """explainer.llm = 'smollm2'
LENGTH = 64
explainer.max_tokens = %LENGTH
pairs.irrelevant_ranks = (4, 5)
pairs.relevant_ranks = (1,)
"""


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, in folders."""
    folder = tmp_path_factory.mktemp("valid")
    sample = shipped("examples/sample")
    words = ["--limit", "64", "--engine", "none", "--shard_size", "32", "--output_dir", str(folder / "dataset")]
    main(["explain", "--pairs", str(sample / "pairs.tsv"), *words])
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "num_layers": 1, "decoder_start_token_id": 0}
    model = AutoModelForSeq2SeqLM.from_config(T5Config(vocab_size=64, **shape))
    model.save_pretrained(folder / "hf")
    for name in ("torch", "json", "spiece", "texts", "results"):
        (folder / name).mkdir()
    shutil.copy(folder / "hf/config.json", folder / "torch")
    stored = load_file(folder / "hf/model.safetensors")
    torch.save({name: torch.from_numpy(tensor) for name, tensor in stored.items()}, folder / "torch/pytorch_model.bin")
    shutil.copy(sample / "spiece.model", folder / "spiece")
    write_tokenizer(folder / "json")
    write_texts(folder / "texts")
    (folder / "results/qrels.txt").write_text("q1 0 p1 1\nq1 0 p2 0\nq2 0 p2 1\n")
    (folder / "results/run.trec").write_text("q1 Q0 p2 1 2 t\nq1 Q0 p1 2 1 t\n")
    (folder / "results/b.trec").write_text("q1 Q0 p1 1 2 exaranker-t\nq2 Q0 p2 2 1 exaranker-t\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trec_eval, "unavailable", lambda: "starting Java takes seconds")
        runs = [str(folder / "results" / name) for name in ("run.trec", "b.trec")]
        output = f"--output={folder / 'results/results.json'}"
        main(["evaluate", "--qrels", str(folder / "results/qrels.txt"), "--run", *runs, output, "--measures", "RR"])
    return folder


def write_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))


def write_texts(folder: Path) -> None:
    shutil.copy(Path(load_style.__code__.co_filename).with_name("small.yaml"), folder / "prompt.yaml")
    (folder / "run.gin").write_text(GIN)
    condition = {"name": "one", "run": "{output}/a.trec", "qrels": "q.txt", "measure": "nDCG@10", "expected": 0.5}
    (folder / "expected.yaml").write_text(
        yaml.safe_dump([{**condition, "tolerance": 0.01, "commands": ["exaranker x"]}])
    )
    partial = Partial(folder / "run.trec", "job")
    list(partial.map(lambda rows, _: list(rows), chunked(range(9), 3), identity=int, desc="test", unit="row"))


def changed_value(value: Any, seeded: random.Random) -> Any:
    """JSON with one value, at any depth, replaced or left out."""
    if isinstance(value, dict | list) and value and seeded.random() < 0.9:
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        key = seeded.choice(sorted(copy)) if isinstance(copy, dict) else seeded.randrange(len(copy))
        if seeded.random() < 0.1:
            del copy[key]
        else:
            copy[key] = changed_value(copy[key], seeded)
        return copy
    return seeded.choice(HOSTILE)


def changed_bytes(content: bytes, seeded: random.Random) -> bytes:
    """Bytes with a flipped bit, or a piece that is lost, doubled, zeroed, or the end."""
    at = seeded.randrange(len(content))
    end = min(len(content), at + seeded.randrange(1, 99))
    return seeded.choice(
        [
            content[:at] + bytes([content[at] ^ 1 << seeded.randrange(8)]) + content[at + 1 :],
            content[:at] + content[end:],
            content[:end] + content[at:],
            content[:at] + bytes(end - at) + content[end:],
            content[:at],
        ]
    )


def mutated(path: Path, seeded: random.Random) -> bytes:
    content = path.read_bytes()
    if path.suffix in (".json", ".yaml") and seeded.random() < 0.6:
        value = changed_value(yaml.safe_load(content), seeded)
        return json.dumps(value).encode()  # which is YAML too
    return changed_bytes(content, seeded)


@pytest.mark.parametrize("kind", OPENED)
def test_a_mutated_file_is_refused_or_loads(kind, valid, tmp_path):
    (name, load, exact), seeded, refused = OPENED[kind], random.Random(kind), 0
    expected = load(shutil.copytree((valid / name).parent, tmp_path / "whole"))
    for number in range(FILES // len(OPENED)):
        folder = shutil.copytree((valid / name).parent, tmp_path / str(number))
        path = folder / Path(name).name
        path.write_bytes(mutated(path, seeded))
        try:
            found = load(folder)
        except InputError:
            refused += 1
        else:
            assert found == expected or not exact
    assert refused > 0 or exact  # what is damaged of a partial file is computed again
