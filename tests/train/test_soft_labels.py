"""Soft labels from the dataset to the loss: cross-entropy against the LLM's own probability of relevance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exaranker.files import sha256_file, write_json
from exaranker.files.shipped import shipped
from exaranker.losses.token import LossConfig, SoftTargets, soft_targets, token_losses
from exaranker.preprocess.dataset.writer import write_tfrecord
from exaranker.schema import MANIFEST, read_manifest, read_shard
from exaranker.tasks import register_dataset, register_mixture
from exaranker.templates import DECODER_ONLY, ENCODER_DECODER, TEMPLATES, label_ids
from exaranker.tokenization import load_tokenizer
from exaranker.train.batches import Batches, BatchSpec

VOCABULARY = shipped("examples/sample") / "spiece.model"
LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 5)), jnp.float32)


def test_the_loss_is_the_cross_entropy_against_both_labels(rounding):
    log_probs = jax.nn.log_softmax(LOGITS)
    soft = SoftTargets(jnp.array([[4, 0]]), jnp.array([[0.3, 0.0]]))
    losses = token_losses(LOGITS, jnp.array([[1, 2]]), LossConfig(), soft)
    expected = [[-0.7 * log_probs[0, 0, 1] - 0.3 * log_probs[0, 0, 4], -log_probs[0, 1, 2]]]
    rounding.assert_equal_but_for_rounding(losses.cross_entropy, expected, terms=5)  # pieces


def test_its_minimum_is_at_the_soft_label(rounding):
    soft = SoftTargets(jnp.array([[1]]), jnp.array([[0.25]]))

    def loss(logits):
        return token_losses(logits[None, None], jnp.array([[0]]), LossConfig(z_loss=0.0), soft).cross_entropy.sum()

    logits = jnp.log(jnp.array([0.75, 0.25]))
    # Differences of probabilities, which reach 1 and are sums of 2 terms; the second one is known to 4 decimals.
    np.testing.assert_allclose(jax.grad(loss)(logits), [0.0, 0.0], atol=rounding.rounding(2, 1.0))
    np.testing.assert_allclose(
        jax.grad(loss)(logits + jnp.array([1.0, 0.0])), [0.1408, -0.1408], atol=5e-5
    )  # half of the last digit


@pytest.fixture
def judged(tmp_path, dataset):
    """The dataset, as if its LLM had been asked: it finds every pair relevant with 0.25."""
    manifest = read_manifest(dataset) | {"settings": {"relevance": {"name": "relevance"}}}
    for shard in manifest["shards"]:
        path = tmp_path / shard["file"]
        write_tfrecord(path, [row._replace(llm_relevance=0.25) for row in read_shard(dataset / shard["file"])])
        shard |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(tmp_path / MANIFEST, manifest)
    return tmp_path


def batches(task: str, family: str, pack: bool) -> Batches:
    lengths = {"inputs": 256, "targets": 64}
    return Batches(BatchSpec(task, "train", lengths, 8, family, pack=pack, shuffle=False, repeat=False))


@pytest.mark.parametrize(("family", "template"), [(ENCODER_DECODER, "exaranker"), (DECODER_ONLY, "decoder")])
@pytest.mark.parametrize("pack", [True, False])
def test_batches_share_out_the_label_and_nothing_else(judged, family, template, pack):
    register_dataset("judged", judged, VOCABULARY, template)
    ids = np.array(label_ids(load_tokenizer(VOCABULARY), TEMPLATES[template]))
    counts = np.zeros(2, int)
    for batch in batches("exaranker_judged_soft_label", family, pack):
        soft = soft_targets(batch.arrays)
        label = batch.arrays["decoder_label_weights"] > 0
        assert not soft.tokens[~label].any()
        assert not soft.shares[~label].any()
        relevant = (batch.arrays["decoder_target_tokens"][label] == ids[1]).astype(int)
        np.testing.assert_array_equal(soft.tokens[label], ids[1 - relevant])
        np.testing.assert_array_equal(soft.shares[label], np.where(relevant, 0.75, 0.25))
        counts += [np.sum(relevant == 0), np.sum(relevant == 1)]
    assert counts.min() > 10


def test_explanations_may_be_mixed_in(judged):
    register_dataset("judged", judged, VOCABULARY)
    mixed = {"exaranker_judged_soft_label": 1.0, "exaranker_judged_label_explanation": 1.0}
    name = register_mixture("soft_and_explained", mixed)
    arrays = next(batches(name, ENCODER_DECODER, False)).arrays
    explained = arrays["decoder_loss_weights"].sum(axis=1) > 2
    assert 0 < explained.sum() < 8
    assert not arrays["decoder_other_label_shares"][explained].any()
    assert arrays["decoder_other_label_shares"][~explained, 0].all()


def test_hard_labels_carry_nothing_more(dataset):
    register_dataset("sample", dataset, VOCABULARY)
    assert soft_targets(next(batches("exaranker_sample_label", ENCODER_DECODER, True)).arrays) is None
