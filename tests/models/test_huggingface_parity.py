"""The same weights give the same numbers as Hugging Face transformers in torch, in fp32."""

import flax.traverse_util
import jax
import numpy as np
import pytest

from exaranker.losses.token import LossConfig, token_losses
from exaranker.models import t5, t5gemma
from exaranker.models.decoder import DecoderOnlyLayer
from exaranker.models.decoding import first_step_logits, greedy_generate
from exaranker.models.layers import Embedding, RMSNorm

torch = pytest.importorskip("torch")

ROWS, LENGTH, TARGET = 64, 14, 7
CLAIMED = 1e-4  # of the largest entry: what rounding may leave has to stay below it too
CAPTURED = (
    t5.EncoderLayer,
    t5.DecoderLayer,
    t5gemma.EncoderLayer,
    t5gemma.DecoderLayer,
    DecoderOnlyLayer,
    Embedding,
    RMSNorm,
)


@pytest.fixture(scope="module")
def both(pair, inputs):
    """(our logits, our hidden states by stack, their outputs)."""
    return *ours(pair, *inputs), theirs(pair, *inputs)


@pytest.fixture(scope="module")
def inputs():
    """Right-padded inputs of 3 to 14 tokens, and targets."""
    random = np.random.default_rng(0)
    tokens = random.integers(2, 160, (ROWS, LENGTH))
    lengths = random.integers(3, LENGTH + 1, ROWS)
    return np.where(np.arange(LENGTH) < lengths[:, None], tokens, 0), random.integers(2, 160, (ROWS, TARGET))


def ours(pair, inputs, targets):
    """(logits, {stack: what goes into its first layer, what comes out of each, the last after the final norm})."""
    batch = {"decoder_input_tokens": inputs}
    if pair.is_encoder_decoder:
        shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
        batch = {"encoder_input_tokens": inputs, "decoder_input_tokens": shifted}
    run = jax.jit(
        lambda params, batch: pair.module.apply(
            {"params": params}, batch, capture_intermediates=lambda layer, _: isinstance(layer, CAPTURED)
        )
    )
    logits, captured = run(pair.params, batch)
    outputs = flax.traverse_util.flatten_dict(captured["intermediates"], sep="/")
    sides = ("encoder", "decoder") if pair.is_encoder_decoder else ("decoder",)
    return np.asarray(logits), {side: hidden_states(side, outputs) for side in sides}


def hidden_states(side, outputs):
    """What Hugging Face calls so: the embeddings, each layer's output, and the last one's after the final norm."""
    count = sum(name.startswith(f"{side}/layers_") and name.count("/") == 2 for name in outputs)
    layers = [outputs[f"{side}/layers_{index}/__call__"][0][0] for index in range(count - 1)]
    calls = outputs.get(f"{side}_embedder/__call__") or outputs["token_embedder/__call__"]
    embedded = calls[-1 if side == "decoder" else 0]  # T5 embeds inputs, then targets, with the same table
    return [embedded, *layers, outputs[f"{side}/{side}_norm/__call__"][0]]


@torch.no_grad()
def theirs(pair, inputs, targets):
    tokens = torch.tensor(inputs)
    mask = (tokens != 0).long()
    if pair.is_encoder_decoder:
        return pair.theirs(
            input_ids=tokens, attention_mask=mask, labels=torch.tensor(targets), output_hidden_states=True
        )
    labels = torch.where(tokens == 0, -100, tokens).long()
    return pair.theirs(input_ids=tokens, attention_mask=mask, labels=labels, output_hidden_states=True)


def their_arrays(pair, inputs, targets):
    """The loss, the logits and each stack's hidden states; a padding token's own state means nothing and differs."""
    found, real = theirs(pair, inputs, targets), inputs != 0
    if pair.is_encoder_decoder:
        encoded = [state[real] for state in found.encoder_hidden_states]
        return [found.loss, found.logits, *encoded, *found.decoder_hidden_states]
    return [found.loss, found.logits[real], *(state[real] for state in found.hidden_states)]


def our_arrays(pair, logits, states, inputs):
    """The same, but for the loss."""
    real = inputs != 0
    if pair.is_encoder_decoder:
        return [logits, *(np.asarray(state)[real] for state in states["encoder"]), *states["decoder"]]
    return [logits[real], *(np.asarray(state)[real] for state in states["decoder"])]


def tolerances_of(rounding, pair, inputs, targets):
    """Of each of `their_arrays`."""
    terms = max(48, inputs.shape[1])  # mlp_dim, or positions
    return rounding.moved_by_rounding(
        lambda model: their_arrays(pair._replace(theirs=model), inputs, targets), pair.theirs, terms
    )


@pytest.fixture(scope="module")
def tolerances(rounding, pair, inputs):
    return tolerances_of(rounding, pair, *inputs)


def test_every_hidden_state_and_the_logits(pair, inputs, both, tolerances):
    logits, states, _ = both
    assert len(tolerances) >= 4  # the loss, logits, embeddings, a layer
    assert_close(our_arrays(pair, logits, states, inputs[0]), their_arrays(pair, *inputs)[1:], tolerances[1:])


def test_far_apart_tokens(rounding, pair):
    """Relative positions beyond the last of T5's buckets, 128, on both sides."""
    random = np.random.default_rng(1)
    tokens = random.integers(2, 160, (2, 300)), random.integers(2, 160, (2, 200))
    found, atols = our_arrays(pair, *ours(pair, *tokens), tokens[0]), tolerances_of(rounding, pair, *tokens)
    assert_close(found, their_arrays(pair, *tokens)[1:], atols[1:])


def assert_close(actual, expected, atols):
    for one, other, atol in zip(actual, expected, atols, strict=True):
        claimed = CLAIMED * float(np.abs(np.asarray(other)).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=min(atol, claimed))


def test_loss(rounding, pair, inputs, both, tolerances):
    source, targets = inputs
    logits, _, reference = both
    if not pair.is_encoder_decoder:
        logits, targets = logits[:, :-1], source[:, 1:]
    losses = token_losses(logits, targets, LossConfig(z_loss=0.0)).cross_entropy
    weights = targets != 0
    expected = float(reference.loss)
    summed = rounding.rounding(targets.size, expected)  # a mean over all targets
    assert abs(float(np.sum(losses * weights) / np.sum(weights)) - expected) <= min(
        tolerances[0] + summed, 1e-5 * min(1.0, expected)
    )


def test_greedy_tokens(pair, inputs):
    source, _ = inputs
    tokens = torch.tensor(source)
    if not pair.is_encoder_decoder:  # transformers generates from left-padded prompts
        tokens = torch.stack([torch.roll(row, int((row == 0).sum())) for row in tokens])
    eos = 1
    reference = pair.theirs.generate(
        input_ids=tokens,
        attention_mask=(tokens != 0).long(),
        max_new_tokens=10,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=0,
    ).numpy()
    reference = reference[:, 1:] if pair.is_encoder_decoder else reference[:, LENGTH:]
    generated = greedy_generate(pair.module, pair.params, source, np.zeros((ROWS, 0), int), 10, eos)
    np.testing.assert_array_equal(generated[:, : reference.shape[1]], reference)


def test_first_step(pair, inputs, both, tolerances):
    source, _ = inputs
    ids = np.array([17, 90])
    reference = both[2].logits.numpy()
    last = np.zeros(ROWS, int) if pair.is_encoder_decoder else (source != 0).sum(1) - 1
    found = first_step_logits(pair.module, pair.params, source, ids)
    assert_close([found], [reference[np.arange(ROWS), last][:, ids]], tolerances[1:2])
