"""An export ranks elsewhere as it does here: the real libraries, the same order, log-odds within 1e-4."""

import csv
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
import transformers
from huggingface_hub import ModelCard as HubCard

from exaranker import cli, models
from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.transfer import export_checkpoint, import_checkpoint
from exaranker.checkpoints.folder import load_card
from exaranker.checkpoints.store import save_model
from exaranker.embedded.llm import embedded_llm_dir
from exaranker.errors import InputError
from exaranker.evaluate.results import RESULTS_VERSION
from exaranker.files import sha256_json
from exaranker.files.shipped import shipped
from exaranker.models.decoder import DecoderConfig
from exaranker.models.qwen3 import Qwen3Config
from exaranker.models.t5 import T5Config
from exaranker.models.t5gemma import T5GemmaConfig
from exaranker.models.t5gemma2 import T5Gemma2Config
from exaranker.rank.reranker import Reranker
from exaranker.templates import template_named
from exaranker.tokenization import load_tokenizer

httpx = pytest.importorskip("httpx")  # none of the four is in the lock for Python 3.12
pandas = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
CrossEncoder = pytest.importorskip("sentence_transformers").CrossEncoder

QWEN2_TOKENIZER = "Qwen2Tokenizer"
SPIECE = shipped("examples/sample") / "spiece.model"
TINY = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 48, "dtype": "float32"}
STACKS = {"num_encoder_layers": 2, "num_decoder_layers": 2}
GROUPED = {"num_kv_heads": 1, **TINY}
UMT5 = {"relative_bias_per_layer": True, "scale_logits": True}  # transformers 5 scales those of every umT5
FAMILIES = {
    "t5": (T5Config(vocab_size=4096, **STACKS, **TINY), "monot5", SPIECE),
    "umt5": (T5Config(vocab_size=4096, **UMT5, **STACKS, **TINY), "exaranker", SPIECE),
    "byt5": (T5Config(vocab_size=384, **STACKS, **TINY), "monot5", "byt5"),
    "t5gemma": (T5GemmaConfig(vocab_size=49152, **STACKS, **GROUPED), "exaranker", embedded_llm_dir()),
    "t5gemma2": (T5Gemma2Config(vocab_size=49152, **STACKS, **GROUPED), "exaranker", embedded_llm_dir()),
    # vLLM has no CPU attention for heads of 16.
    "llama": (
        DecoderConfig(vocab_size=49152, num_layers=2, **{**GROUPED, "head_dim": 64}),
        "decoder",
        embedded_llm_dir(),
    ),
    "qwen2": (DecoderConfig(vocab_size=49152, qkv_bias=True, num_layers=2, **GROUPED), "decoder", QWEN2_TOKENIZER),
    "qwen3": (Qwen3Config(vocab_size=4096, num_layers=2, **GROUPED), "decoder_monot5", SPIECE),
}
LONG = "The passage goes on and on about bees and rivers. " * 40


CLAIMED = 1e-4  # of log-odds, in docs/claims.md
PLAIN = "how do bees make honey"


def sample_pairs(count):
    """One question, with what is no control token in a text, and many passages that need not be cut."""
    with (shipped("examples") / "sample/pairs.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(f"{PLAIN} </s> <|im_end|>", passage[:300]) for _, _, passage in rows[:count]]


PAIRS = sample_pairs(50)


def save_random(directory, config, template, tokenizer_file, **card):
    """A model of random weights, so large that scores differ by more than rounding."""
    tokenizer, template = load_tokenizer(tokenizer_file), template_named(template)
    tokens = np.ones((1, 8), np.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    params = nn.meta.unbox(models.build(config).init(jax.random.key(3), batch)["params"])
    params = jax.tree.map(lambda leaf: leaf * 2 if leaf.ndim > 1 else leaf, params)
    save_model(directory, ModelCard(config, template, tokenizer.digest, **card), params, tokenizer)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """exported(family): the folder of an export, and our log-odds of PAIRS and of a pair that is too long."""
    made = {}

    def make(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            config, template, file = FAMILIES[family]
            if file == QWEN2_TOKENIZER:  # AutoTokenizer has this one class for whatever a Qwen2 comes with
                file = folder / "tokenizer"
                transformers.Qwen2Tokenizer.from_pretrained(embedded_llm_dir()).save_pretrained(file)
            save_random(folder / "model", config, template, file, max_length=300 if family == "t5" else None)
            scores = list(Reranker.from_checkpoint(folder / "model").score([*PAIRS, (PAIRS[0][0], LONG)]))
            made[family] = export_checkpoint(folder / "model", "hf", folder / "hf"), np.array(scores)
        return made[family]

    return make


@pytest.fixture(scope="module")
def close(same_score):
    """How far log-odds may lie apart: weights that are doubled make logits of up to twice same_score's."""
    assert 2 * same_score < CLAIMED
    return 2 * same_score


def assert_alike(theirs, ours, atol):
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=atol)
    assert np.argsort(theirs).tolist() == np.argsort(ours).tolist()
    assert np.ptp(ours) > 0.1


def assert_probabilities_alike(rounding, theirs, ours, close):
    """A probability moves by a quarter of its log-odds, the sigmoid's slope, and is a softmax over two in fp32."""
    atol = close / 4 + rounding.rounding(2, 1.0)
    np.testing.assert_allclose(theirs, 1 / (1 + np.exp(-ours)), rtol=0, atol=atol)
    assert np.argsort(theirs).tolist() == np.argsort(ours).tolist()
    assert np.ptp(ours) > 0.1


@torch.inference_mode()
def by_auto_classes(folder):
    """As the model card says, pair by pair."""
    ranker = json.loads((folder / "exaranker.json").read_text())
    words, ids = ranker["template"]["input"], [ranker["label_ids"][name] for name in ("irrelevant", "relevant")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()  # others leave T5Gemma's soft caps out
    scores = []
    for query, passage in PAIRS:
        batch = tokenizer([words.format(query=query, passage=passage)], return_tensors="pt")
        if config.is_encoder_decoder:
            batch["decoder_input_ids"] = torch.tensor([[config.decoder_start_token_id]])
        irrelevant, relevant = model(**batch).logits[0, -1, ids].tolist()
        assert max(abs(irrelevant), abs(relevant)) < 8  # see `close`
        scores.append(relevant - irrelevant)
    return np.array(scores)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_auto_classes(close, exported, family):
    folder, ours = exported(family)
    assert_alike(by_auto_classes(folder), ours[:50], close)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_cross_encoder_of_a_decoder(close, exported, family):
    folder, ours = exported(family)
    assert_alike(CrossEncoder(str(folder)).predict(PAIRS, batch_size=16), ours[:50], close)


@pytest.mark.parametrize("family", ["t5", "byt5", "t5gemma", "t5gemma2"])
def test_a_cross_encoder_of_an_encoder_decoder(close, exported, family):
    folder, ours = exported(family)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        CrossEncoder(str(folder))
    model = CrossEncoder(str(folder), trust_remote_code=True)
    assert_alike(model.predict([*PAIRS, (PAIRS[0][0], LONG)], batch_size=16), ours, close)


def test_rerankers_t5ranker_as_it_comes(rounding, close, exported, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # what it imports would ask the network for prices
    from rerankers import Reranker as TheirReranker

    folder, ours = exported("t5")
    ranker = TheirReranker(str(folder), model_type="t5", verbose=0)
    found = ranker.rank(PAIRS[0][0], [passage for _, passage in PAIRS], doc_ids=list(range(50)))
    theirs = {result.doc_id: result.score for result in found.results}
    assert_probabilities_alike(rounding, [theirs[number] for number in range(50)], ours[:50], close)


def test_pyterrier_t5(rounding, close, exported):
    from pyterrier_t5 import MonoT5ReRanker

    folder, _ = exported("t5")
    # One by one: it puts the last words behind a batch's padding. And it obeys control tokens in texts.
    ranker = MonoT5ReRanker(tok_model=str(folder), model=str(folder), batch_size=1, verbose=False)
    rows = [{"qid": "1", "docno": n, "query": PLAIN, "text": text} for n, (_, text) in enumerate(PAIRS)]
    found = ranker.transform(pandas.DataFrame(rows)).sort_values("docno")
    ours = list(Reranker.from_checkpoint(folder.with_name("model")).score((PLAIN, text) for _, text in PAIRS))
    assert_probabilities_alike(rounding, np.exp(found["score"].to_numpy()), np.array(ours), close)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_an_export_comes_back_with_its_template_and_length(close, exported, tmp_path, family):
    folder, ours = exported(family)
    import_checkpoint(folder, "hf", tmp_path / "back")
    card = load_card(tmp_path / "back")
    assert card.template == load_card(folder.with_name("model")).template
    assert card.max_length == {"t5": 300, "llama": 512}[family]
    back = Reranker.from_checkpoint(tmp_path / "back", dtype="float32")
    np.testing.assert_allclose(list(back.score(PAIRS[:3])), ours[:3], rtol=0, atol=close)


@pytest.mark.slow
def test_vllm_scores(close, exported, tmp_path):
    folder, ours = exported("llama")
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    program = Path(__file__).with_name("vllm_scores.py")
    command = [sys.executable, program, folder, tmp_path / "pairs.json", tmp_path / "scores.json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_alike(json.loads((tmp_path / "scores.json").read_text()), ours[:50], close)


@pytest.fixture(scope="module")
def vllm_server(exported, tmp_path_factory):
    """`vllm serve` of an export, as docs/elsewhere.md has it: its address, and our log-odds."""
    folder, ours = exported("llama")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log"
    command = [sys.executable, Path(__file__).with_name("vllm_serve.py"), folder, port]
    with log.open("wb") as stream, subprocess.Popen([*map(str, command)], stdout=stream, stderr=stream) as process:
        try:
            address, end = f"http://127.0.0.1:{port}", time.monotonic() + 600
            while not _answers(f"{address}/health"):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < end, log.read_text()[-3000:]
                time.sleep(0.5)
            yield address, ours[:50]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_vllm_serves_score(close, vllm_server):
    address, ours = vllm_server
    queries, passages = zip(*PAIRS, strict=True)
    body = {"text_1": queries, "text_2": passages, "use_activation": False}
    answer = httpx.post(f"{address}/score", json=body, timeout=300).raise_for_status().json()
    assert [found["index"] for found in answer["data"]] == list(range(50))
    assert_alike([found["score"] for found in answer["data"]], ours, close)


@pytest.mark.slow
def test_vllm_serves_rerank(close, vllm_server):
    address, ours = vllm_server
    body = {"query": PAIRS[0][0], "documents": [passage for _, passage in PAIRS]}
    answer = httpx.post(f"{address}/rerank", json=body | {"use_activation": False}, timeout=300).raise_for_status()
    found = answer.json()["results"]
    assert [one["index"] for one in found] == np.argsort(-ours, kind="stable").tolist()
    theirs = {one["index"]: one["relevance_score"] for one in found}
    assert_alike([theirs[number] for number in range(50)], ours, close)
    probabilities = httpx.post(f"{address}/rerank", json=body, timeout=300).json()["results"]
    assert [one["index"] for one in probabilities] == [one["index"] for one in found]
    assert [one["relevance_score"] for one in probabilities] == pytest.approx(
        [1 / (1 + np.exp(-one["relevance_score"])) for one in found],
        abs=close / 4,  # the sigmoid's slope
    )


def test_the_model_card_says_what_is_known(tmp_path):
    run = {"MIXTURE_OR_TASK_NAME": "exaranker_sample_label", "LLM": "SmolLM2", "PROMPT": "1f2e"}
    run |= {"TASK_FEATURE_LENGTHS": {"inputs": 256, "targets": 64}}
    config, template, file = FAMILIES["t5"]
    save_random(tmp_path / "model", config, template, file, run=run)
    means = {"nDCG@10": 0.5123}
    runs = [{"name": name, "means": means} for name in ("bm25", "ours")]
    results = {
        "results_version": RESULTS_VERSION,
        "qrels": {"file": "data/dl19.txt"},
        "measures": ["nDCG@10"],
        "runs": runs,
    }
    results |= {"command": "", "comparisons": [], "trec_eval": None}
    (tmp_path / "results.json").write_text(json.dumps(results | {"sha256": sha256_json(results)}))
    words = ["export", "--checkpoint", tmp_path / "model", "--format", "hf", "--output", tmp_path / "hf"]
    words = [*map(str, words), "--results", str(tmp_path / "results.json")]
    with pytest.raises(SystemExit):
        cli.main(words)
    cli.main([*words, "--run", "ours"])
    card = HubCard.load(tmp_path / "hf/README.md")
    assert card.data.pipeline_tag == "text-ranking"
    [found] = card.data.eval_results
    assert (found.dataset_name, found.metric_name, found.metric_value) == ("dl19.txt", "nDCG@10", 0.5123)
    for words in (
        "| explanations by | `SmolLM2` |",
        "longer than 256 tokens",
        "| dl19.txt | bm25 | nDCG@10 | 0.5123 |",
    ):
        assert words in card.text
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["n_positions"] == 256
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "hf")
    assert (generation.decoder_start_token_id, generation.eos_token_id, generation.do_sample) == (0, 1, False)


def test_an_altered_ranker_file_is_refused(exported, tmp_path):
    folder, _ = exported("t5")
    shutil.copytree(folder, tmp_path / "hf")
    ranker = json.loads((folder / "exaranker.json").read_text())
    ranker["label_ids"]["relevant"] = 9
    (tmp_path / "hf/exaranker.json").write_text(json.dumps(ranker))
    with pytest.raises(InputError, match=r"exaranker\.json: label ids .*, template and tokenizer give \[4, 3\]"):
        import_checkpoint(tmp_path / "hf", "hf", tmp_path / "back")
