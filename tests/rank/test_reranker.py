"""The Python API: scores do not depend on batching or padding, and are the model's own log-odds."""

import asyncio
import dataclasses
import itertools
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exaranker.checkpoints.store import load_for_inference
from exaranker.errors import InputError
from exaranker.models import build
from exaranker.rank.reranker import Reranker
from exaranker.templates import encode_input, label_ids

QUERY = "how do bees make honey"
PASSAGES = ["Bees make honey.", "A capo presses strings down. " * 9, "", "The Nile is long. " * 3, "Salt."]
PAIRS = [(QUERY, passage) for passage in PASSAGES]


@pytest.fixture(scope="module")
def reranker(checkpoint: Path) -> Reranker:
    return Reranker.from_checkpoint(checkpoint, max_length=128, token_budget=256)


def test_scores_are_the_full_models_log_odds(checkpoint: Path, reranker: Reranker, same_score: float) -> None:
    card, params, tokenizer = load_for_inference(checkpoint)
    irrelevant, relevant = label_ids(tokenizer, card.template)
    apply = jax.jit(build(card.config).apply)
    for (query, passage), score in zip(PAIRS[:2], reranker.score(PAIRS[:2]), strict=True):
        tokens = jnp.array([encode_input(tokenizer, card.template, query, passage, max_length=128)])
        if card.template.family == "encoder_decoder":
            batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": jnp.zeros((1, 1), jnp.int32)}
        else:
            batch = {"decoder_input_tokens": tokens}
        logits = apply({"params": params}, batch)[0, -1]
        assert score == pytest.approx(float(logits[relevant] - logits[irrelevant]), abs=same_score)


def test_scores_do_not_depend_on_batching_order_or_padding(reranker: Reranker, same_score: float) -> None:
    together = dict(zip(PAIRS, reranker.score(PAIRS), strict=True))
    alone = {pair: score for pair in PAIRS for score in reranker.score([pair])}
    backwards = dict(zip(PAIRS[::-1], reranker.score(PAIRS[::-1]), strict=True))
    padded = dataclasses.replace(reranker, token_budget=4096)
    for pair in PAIRS:
        assert alone[pair] == pytest.approx(together[pair], abs=same_score)
        assert backwards[pair] == pytest.approx(together[pair], abs=same_score)
    assert list(padded.score(PAIRS)) == pytest.approx(list(together.values()), abs=same_score)
    assert len({round(score, 4) for score in together.values()}) == len(PAIRS)  # and they are not all the same


def test_scores_are_the_same_bytes_each_time(reranker: Reranker) -> None:
    assert list(reranker.score(PAIRS)) == list(reranker.score(PAIRS))


def test_scoring_streams(reranker: Reranker, same_score: float) -> None:
    endless = itertools.cycle(PAIRS)
    scores = list(itertools.islice(reranker.score(endless), 3 * len(PAIRS)))
    assert scores[: len(PAIRS)] == pytest.approx(scores[len(PAIRS) : 2 * len(PAIRS)], abs=same_score)


def test_a_reranker_and_its_model_are_shown_in_one_line(reranker: Reranker) -> None:
    loaded = r"LoadedModel\('/.+/checkpoint_0', template='\w+', devices=1\)"
    assert re.fullmatch(loaded, repr(reranker.model))
    assert re.fullmatch(rf"Reranker\({loaded}, max_length=128, token_budget=256\)", repr(reranker))


def test_nothing_to_score(reranker: Reranker) -> None:
    assert list(reranker.score([])) == []
    assert reranker.rank(QUERY, []) == []
    assert reranker.explain([]) == []


def test_rank_sorts_by_score_and_keeps_ties_in_order(reranker: Reranker) -> None:
    ranking = reranker.rank(QUERY, [*PASSAGES, PASSAGES[0]])
    scores = [ranked.score for ranked in ranking]
    assert scores == sorted(scores, reverse=True)
    assert sorted(ranked.position for ranked in ranking) == list(range(6))
    twins = [ranked.position for ranked in ranking if ranked.passage == PASSAGES[0]]
    assert twins == [0, 5]


def test_rank_takes_iterables_and_gives_the_best(reranker: Reranker) -> None:
    whole = reranker.rank(QUERY, PASSAGES)
    assert reranker.rank(QUERY, iter(PASSAGES), top_k=2) == whole[:2]
    assert whole[0].probability == pytest.approx(1 / (1 + math.exp(-whole[0].score)))
    with pytest.raises(TypeError, match="passages is str 'Cats'"):
        reranker.rank(QUERY, "Cats")
    with pytest.raises(InputError, match="top_k is 0, expected at least 1"):
        reranker.rank(QUERY, PASSAGES, top_k=0)
    with pytest.raises(InputError, match="1 scores for 2 pairs"):
        reranker.explain(PAIRS[:2], scores=[1.0])


def test_explanations_follow_the_label_of_the_score(reranker: Reranker, same_score: float) -> None:
    found = reranker.explain(PAIRS, max_new_tokens=6)
    assert [e.label for e in found] == ["true" if e.score > 0 else "false" for e in found]
    assert [e.score for e in found] == pytest.approx(list(reranker.score(PAIRS)), abs=same_score)
    assert all("\n" not in e.explanation for e in found)


def test_known_scores_choose_the_label_without_scoring_again(reranker: Reranker) -> None:
    forced = reranker.explain(PAIRS[:2], scores=iter([1.5, -1.5]), max_new_tokens=4)
    assert [(e.label, e.score) for e in forced] == [("true", 1.5), ("false", -1.5)]


def test_explanations_do_not_depend_on_their_neighbours(reranker: Reranker) -> None:
    alone = [reranker.explain([pair], max_new_tokens=6)[0].explanation for pair in PAIRS]
    assert [e.explanation for e in reranker.explain(PAIRS, max_new_tokens=6)] == alone


def test_bfloat16_ranks_much_the_same(rounding: ModuleType, checkpoint: Path, reranker: Reranker) -> None:
    rounded = Reranker.from_checkpoint(checkpoint, max_length=128, token_budget=256, dtype="bfloat16")
    kernels = [leaf.dtype for leaf in _kernels(rounded.model.params)]
    assert set(kernels) == {jnp.dtype("bfloat16")}
    exact, rough = np.array(list(reranker.score(PAIRS))), np.array(list(rounded.score(PAIRS)))
    tolerance = rounding.rounding(48, np.abs(exact).max(), "bfloat16") / 2  # mlp_dim; one of the two is exact
    np.testing.assert_allclose(rough, exact, rtol=0, atol=tolerance)


def _kernels(tree: dict) -> list:
    leaves = [
        _kernels(value) if isinstance(value, dict) else [value] * (key == "kernel")
        for key, value in tree.items()
        if key != "logits_dense"
    ]
    return [leaf for group in leaves for leaf in group]


def test_the_best_are_explained_with_their_ranking(reranker: Reranker) -> None:
    plain, ranking = reranker.rank(QUERY, PASSAGES), reranker.rank(QUERY, PASSAGES, top_k=3, explain=2)
    assert [one._replace(explanation="") for one in ranking] == plain[:3]
    told = reranker.explain([(QUERY, one.passage) for one in ranking[:2]], [one.score for one in ranking[:2]])
    assert [one.explanation for one in ranking] == [told[0].explanation, told[1].explanation, ""]
    assert told[0].probability == ranking[0].probability
    with pytest.raises(InputError, match="explain is -1, expected at least 1"):
        reranker.rank(QUERY, PASSAGES, explain=-1)


def test_probabilities_are_sigmoids(reranker: Reranker) -> None:
    expected = [1 / (1 + math.exp(-score)) for score in reranker.score(PAIRS)]
    assert list(reranker.score(iter(PAIRS), as_probability=True)) == pytest.approx(expected)


def test_an_event_loop_goes_on(reranker: Reranker) -> None:
    """Several calls at once give what each gives alone."""

    async def at_once() -> tuple[Any, ...]:
        calls = reranker.ascore(PAIRS), reranker.arank(QUERY, PASSAGES, 2), reranker.aexplain(PAIRS[:1], [1.0], 4)
        return await asyncio.gather(*calls, reranker.awhy(QUERY, PASSAGES[0], 4))

    scores, ranking, explained, why = asyncio.run(at_once())
    assert scores == list(reranker.score(PAIRS))
    assert ranking == reranker.rank(QUERY, PASSAGES, 2)
    assert explained == reranker.explain(PAIRS[:1], [1.0], 4)
    assert why == reranker.why(QUERY, PASSAGES[0], 4)
