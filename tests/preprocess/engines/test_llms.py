"""Which files of a hub repository are fetched; the hub itself is out of reach of tests."""

import re

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from exaranker.errors import InputError
from exaranker.preprocess.engines.llms import find_llm

CONFIG = ["config.json", "tokenizer.json"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub whose repository has the files of `hub`, a list; by the real hub client's rules."""
    files = []

    def snapshot_download(name, *, allow_patterns, ignore_patterns):
        for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (tmp_path / file).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return files


@pytest.mark.parametrize(
    ("weights", "fetched"),
    [
        (["model-1.safetensors", "model-2.safetensors", "model.bin"], ["model-1.safetensors", "model-2.safetensors"]),
        (["model.safetensors", "consolidated.safetensors", "consolidated.00.pth"], ["model.safetensors"]),
        (["pytorch_model.bin"], ["pytorch_model.bin"]),
    ],
)  # fmt: skip
def test_weights_are_fetched_once(hub, tmp_path, weights, fetched):
    hub += [*CONFIG, *weights]
    found = find_llm("someone/llm")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*CONFIG, *fetched])
    assert (found.path, found.revision) == (tmp_path, tmp_path.name)


def test_a_server_needs_no_weights(hub, tmp_path):
    hub += [*CONFIG, "model.safetensors", "pytorch_model.bin"]
    find_llm("someone/llm", weights=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == CONFIG


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no/such", "it is not in the hub's cache here, nor can the hub be reached (check the name; fetch it where"),
        ("a b", "that is no name of a model on the hub (expected OWNER/NAME, or a directory)"),
    ],
)
def test_a_hub_that_cannot_be_reached(monkeypatch, name, reason):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=re.escape(f"no model {name!r}: no such directory, and {reason}")):
        find_llm(name)
