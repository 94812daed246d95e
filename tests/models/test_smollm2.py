"""SmolLM2-135M with its real weights: the same numbers as Hugging Face transformers, and the same ranking in bf16."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from scipy.stats import kendalltau

from exaranker import models
from exaranker.checkpoints.convert.huggingface import read_huggingface
from exaranker.checkpoints.convert.transfer import import_checkpoint
from exaranker.embedded.llm import embedded_llm_dir
from exaranker.files.shipped import shipped
from exaranker.losses.token import LossConfig, token_losses
from exaranker.models.decoder import DecoderOnlyLayer
from exaranker.models.decoding import greedy_generate
from exaranker.models.layers import RMSNorm
from exaranker.rank.reranker import Reranker
from exaranker.templates import encode_input, template_named
from exaranker.tokenization import load_tokenizer

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimized")]
NEW_TOKENS = 12
CLAIMED = 1e-4  # of the largest entry: what rounding may leave has to stay below it too


@pytest.fixture(scope="module")
def texts():
    """200 (question, passage) pairs of the sample, four passages to a question."""
    with (shipped("examples") / "sample/pairs.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(query, passage) for _, query, passage in rows[:200]]


@pytest.fixture(scope="module")
def prompts(texts):
    tokenizer, template = load_tokenizer(embedded_llm_dir()), template_named("decoder")
    return [encode_input(tokenizer, template, *pair, max_length=160) for pair in texts[:64]]


@pytest.fixture(scope="module")
def theirs():
    return transformers.AutoModelForCausalLM.from_pretrained(embedded_llm_dir(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def ours():
    config, params = read_huggingface(embedded_llm_dir())
    return models.build(dataclasses.replace(config, dtype="float32")), jax.tree.map(jnp.asarray, params)


def test_every_hidden_state_the_logits_and_the_loss(rounding, ours, theirs, prompts):
    module, params = ours
    tokens = np.array([prompt[:48] for prompt in prompts[:8]])
    logits, captured = module.apply(
        {"params": params},
        {"decoder_input_tokens": tokens},
        capture_intermediates=lambda layer, _: isinstance(layer, (DecoderOnlyLayer, RMSNorm)),
    )

    @torch.no_grad()
    def reference(model):
        found = model(torch.tensor(tokens), labels=torch.tensor(tokens), output_hidden_states=True)
        return [*found.hidden_states, found.logits, found.loss]

    layers = captured["intermediates"]["decoder"]
    # As Hugging Face lists them: the embeddings, each layer's output, and the last one's after the final norm.
    states = [params["token_embedder"]["embedding"][tokens]]
    states += [layers[f"layers_{index}"]["__call__"][0][0] for index in range(module.config.num_layers - 1)]
    states += [layers["decoder_norm"]["__call__"][0]]
    losses = token_losses(logits[:, :-1], tokens[:, 1:], LossConfig(z_loss=0.0)).cross_entropy
    atols = rounding.moved_by_rounding(reference, theirs, terms=module.config.mlp_dim)
    atols[-1] += rounding.rounding(losses.size, float(losses.mean()))  # a mean over all targets
    for actual, expected, atol in zip([*states, logits, losses.mean()], reference(theirs), atols, strict=True):
        claimed = CLAIMED * float(np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=min(atol, claimed))


def test_greedy_text_of_64_prompts(ours, theirs, prompts):
    module, params = ours
    eos = theirs.generation_config.eos_token_id
    longest = max(map(len, prompts))
    right = np.array([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
    generated = np.asarray(greedy_generate(module, params, right, np.zeros((64, 0), int), NEW_TOKENS, eos))
    # transformers generates from left-padded prompts.
    left = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.no_grad():
        reference = theirs.generate(
            left, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0
        ).numpy()[:, longest:]
    assert (generated != 0).sum() > 64 * NEW_TOKENS / 2
    np.testing.assert_array_equal(generated[:, : reference.shape[1]], reference)
    assert not generated[:, reference.shape[1] :].any()


def test_bf16_ranks_200_passages_as_fp32_does(texts, tmp_path):
    import_checkpoint(embedded_llm_dir(), "hf", tmp_path / "smollm2")
    exact, rounded = (
        list(Reranker.from_checkpoint(tmp_path / "smollm2", dtype=dtype).score(texts))
        for dtype in ("float32", "bfloat16")
    )
    assert kendalltau(exact, rounded).statistic >= 0.98
