"""Public rankers as they are: their own scoring code and ours on random weights, the cache, and the hub's client."""

import argparse
import fcntl
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import huggingface_hub
import pytest
import sentencepiece
import transformers

from exaranker.checkpoints.convert.public import public_ranker, usable_base, usable_checkpoint
from exaranker.checkpoints.folder import load_card
from exaranker.cli import main
from exaranker.commands import serve_
from exaranker.embedded.llm import embedded_llm_dir
from exaranker.errors import InputError
from exaranker.files.shipped import shipped
from exaranker.rank.reranker import Reranker

torch = pytest.importorskip("torch")

Scores = Callable[[str, str], float]
PAIRS = [
    ("how do bees make honey?", "Worker bees turn nectar into honey in the comb."),
    ("where does the nile begin", "The Nile begins south of the equator?\nIn the highlands of Burundi."),
    ("what is a capo", ""),
]
SAMPLE = shipped("examples/sample")
T5_SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 6, "num_layers": 2, "decoder_start_token_id": 0}
QWEN_SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
QWEN3_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
QWEN3_TASK = "Given a web search query, retrieve relevant passages that answer the query"
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)


def save_t5(folder: Path, kind: str, labels: tuple[str, str]) -> Scores:
    """A T5 or mT5, and pygaggle's and InRanker's scoring: one decoder step, two logits by the names of pieces."""
    folder.mkdir(parents=True)
    vocabulary = (
        vocabulary_with_yes_and_no(folder) if labels == ("no", "yes") else (SAMPLE / "spiece.model").read_bytes()
    )
    (folder / "spiece.model").write_bytes(vocabulary)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=vocabulary)
    gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if kind == "mt5" else {}
    config = transformers.AutoConfig.for_model(kind, vocab_size=pieces.vocab_size(), **T5_SHAPE, **gated)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    model.save_pretrained(folder)
    false, true = (pieces.piece_to_id(f"▁{label}") for label in labels)

    def score(query: str, passage: str) -> float:
        ids = [*pieces.encode(f"Query: {query} Document: {passage} Relevant:"), pieces.eos_id()]
        logits = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
        return float(logits[true] - logits[false])

    return score


def save_qwen3(folder: Path) -> Scores:
    """A Qwen3-Reranker, and its card's scoring: prefix, content and suffix apart, logits of yes and no at the end."""
    model, tokenizer = save_qwen(folder, "qwen3", head_dim=12)
    ids = partial(tokenizer.encode, add_special_tokens=False)
    prefix = ids(f"<|im_start|>system\n{QWEN3_SYSTEM}<|im_end|>\n<|im_start|>user\n")
    suffix = ids("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))

    def score(query: str, passage: str) -> float:
        content = tokenizer(f"<Instruct>: {QWEN3_TASK}\n<Query>: {query}\n<Document>: {passage}").input_ids
        logits = model(input_ids=torch.tensor([[*prefix, *content, *suffix]])).logits[0, -1]
        return float(logits[yes] - logits[no])

    return score


def save_mxbai(folder: Path) -> Scores:
    """An mxbai-rerank-v2, and its library's scoring: every piece of the prompt is encoded by itself."""
    model, tokenizer = save_qwen(folder, "qwen2")
    ids = partial(tokenizer.encode, add_special_tokens=False)
    system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    prefix = ids(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n")
    suffix = [*ids("\n"), *ids(MXBAI_TASK), *ids("<|im_end|>\n<|im_start|>assistant\n")]
    no, yes = ids("0")[0], ids("1")[0]

    def score(query: str, passage: str) -> float:
        pair = [*ids(f"query: {query}"), *ids("\n"), *ids(f"document: {passage}")]
        logits = model(input_ids=torch.tensor([[*prefix, *pair, *suffix]])).logits[0, -1]
        return float(logits[yes] - logits[no])

    return score


def save_qwen(folder: Path, kind: str, **more: Any) -> tuple[Any, Any]:
    config = transformers.AutoConfig.for_model(kind, **QWEN_SHAPE, **more)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(embedded_llm_dir())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def vocabulary_with_yes_and_no(folder: Path) -> bytes:
    lines = [line.split("\t", 1)[1] for line in (SAMPLE / "passages.tsv").read_text().splitlines()[:300]]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, *["yes no"] * 200]),
        model_prefix=str(folder / "trained"),
        model_type="bpe",
        vocab_size=800,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return (folder / "trained.model").read_bytes()


SHAPES: dict[str, Callable[[Path], Scores]] = {
    "castorini/monot5-base-msmarco": partial(save_t5, kind="t5", labels=("false", "true")),
    "unicamp-dl/InRanker-small": partial(save_t5, kind="t5", labels=("false", "true")),
    "unicamp-dl/mt5-base-mmarco-v2": partial(save_t5, kind="mt5", labels=("no", "yes")),
    "Qwen/Qwen3-Reranker-0.6B": save_qwen3,
    "mixedbread-ai/mxbai-rerank-base-v2": save_mxbai,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    embedded_llm_dir()  # stays in the cache that it is in
    monkeypatch.setenv("EXARANKER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def monot5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "castorini/monot5-base-msmarco"
    SHAPES["castorini/monot5-base-msmarco"](folder)
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_log_odds_are_those_of_the_models_own_scoring_code(same_score, name, tmp_path, capsys):
    torch.manual_seed(0)
    theirs = SHAPES[name](tmp_path / name)
    reranker = Reranker.from_checkpoint(tmp_path / name, dtype="float32")
    with torch.no_grad():
        expected = [theirs(*pair) for pair in PAIRS]
    assert same_score < 1e-4  # as docs/claims.md says
    assert list(reranker.score(PAIRS)) == pytest.approx(expected, abs=same_score)
    assert max(expected) - min(expected) > 1e-2  # they tell the pairs apart
    row = public_ranker(name)
    assert reranker.max_length == row.max_length
    assert f"template {row.template.name}, labels {row.template.relevant}/" in capsys.readouterr().err


def test_one_command_reranks_with_a_model_of_others(monot5, tmp_path, cache, capsys):
    (tmp_path / "queries.tsv").write_text("q\thow do bees make honey\n")
    (tmp_path / "passages.tsv").write_text("a\tBees.\nb\tThe Nile.\n")
    (tmp_path / "run.trec").write_text("q Q0 a 1 2 x\nq Q0 b 2 1 x\n")
    files = [f"--{name}={tmp_path / name}.tsv" for name in ("queries", "passages")]
    words = ["rerank", f"--checkpoint={monot5}", *files, f"--run={tmp_path / 'run.trec'}"]
    outputs = []
    for number in range(2):
        main([*words, f"--output={tmp_path / f'{number}.trec'}"])
        outputs.append((tmp_path / f"{number}.trec").read_bytes())
    assert outputs[0] == outputs[1]
    [converted] = [path for path in cache.iterdir() if path.name.startswith("castorini--monot5-base-msmarco-")]
    told = [line for line in capsys.readouterr().err.splitlines() if "template monot5" in line]
    assert [line.split("; ")[1] for line in told] == [f"is converted to {converted}", f"converted to {converted}"]
    assert "https://github.com/castorini/pygaggle" in told[0]


def test_a_model_of_others_says_why_and_names_its_template_where_it_has_to(monot5, tmp_path, capsys):
    unknown = tmp_path / "mine/ranker"
    unknown.parent.mkdir()
    unknown.symlink_to(monot5)
    words = ["why", "--query=how do bees make honey", "--passage=Bees make honey.", "--json"]
    scores = []
    for source in ([f"--checkpoint={monot5}"], [f"--checkpoint={unknown}", "--template=monot5"]):
        main([*words, *source])
        scores.append(json.loads(capsys.readouterr().out)["score"])
    assert scores[0] == scores[1]
    with pytest.raises(SystemExit):
        main([*words, f"--checkpoint={unknown}"])
    assert "which words this model was trained to read is not known" in capsys.readouterr().err


def test_nothing_is_guessed(monot5, tmp_path):
    unknown = tmp_path / "mine/ranker"
    unknown.parent.mkdir()
    unknown.symlink_to(monot5)
    with pytest.raises(InputError, match=r"ranker: which words .* not known \(give --template .*castorini/monot5-\*"):
        usable_checkpoint(unknown)
    for name in ("mine/ranker", tmp_path / "none"):
        with pytest.raises(InputError, match=r"no such directory \(expected MODEL_DIR, .*known of castorini/monot5"):
            usable_checkpoint(name)
    (tmp_path / "mine.yaml").write_text("input: '{passage} {query}'\nrelevant: green\nirrelevant: no\n")
    converted = usable_checkpoint(unknown, str(tmp_path / "mine.yaml"))
    assert Reranker.from_checkpoint(converted).model.card.template.fill("q", "p") == "p q"
    assert converted != usable_checkpoint(unknown, "monot5")
    with pytest.raises(InputError, match="a checkpoint of ours has its own template"):
        usable_checkpoint(converted, "monot5")


def test_what_is_no_checkpoint_is_named_for_what_it_is(monot5):
    with pytest.raises(InputError, match=r"config.json: this is a file \(expected MODEL_DIR"):
        usable_checkpoint(monot5 / "config.json")
    with pytest.raises(InputError, match=r"nowhere: no such directory \(expected [^:]* or a Hugging Face model\)$"):
        usable_base("nowhere")


@pytest.fixture
def mine(monot5, tmp_path) -> list[str]:
    """A ranker that the table does not know, as every verb is told of it: with words of its own, and short inputs."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/ranker").symlink_to(monot5)
    (tmp_path / "words.yaml").write_text("input: '{passage} {query}'\nrelevant: green\nirrelevant: no\n")
    return [f"--checkpoint={tmp_path / 'mine/ranker'}", f"--template={tmp_path / 'words.yaml'}", "--max_length=24"]


def test_why_and_faithfulness_take_words_and_length_too(mine, tmp_path, capsys):
    query, passage = "what do bees make?", "Worker bees make honey. Bears like it. " * 4
    folder, template, _ = (word.partition("=")[2] for word in mine)
    reranker = Reranker.from_checkpoint(folder, template=template, max_length=24)
    expected = reranker.why(query, passage)
    assert expected.characters_read < len(passage)
    capsys.readouterr()
    main(["why", *mine, f"--query={query}", f"--passage={passage}", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["score"] == expected.score
    assert "template words, labels green/no; converted to" in printed.err
    (tmp_path / "queries.tsv").write_text(f"q\t{query}\n")
    (tmp_path / "passages.tsv").write_text(f"p\t{passage}\n")
    row = {"query_id": "q", "doc_id": "p", "rank": 1, "label": expected.label, "score": expected.score}
    (tmp_path / "told.jsonl").write_text(json.dumps({**row, "explanation": "Bees make honey."}) + "\n")
    files = [f"--{name}={tmp_path / name}.tsv" for name in ("queries", "passages")]
    main(
        ["faithfulness", *mine, *files, f"--explanations={tmp_path / 'told.jsonl'}", f"--output={tmp_path / 'f.json'}"]
    )
    assert json.loads((tmp_path / "f.json").read_text())["per_passage"][0]["score"] == expected.score
    printed = capsys.readouterr().err
    assert "template words, labels green/no; converted to" in printed
    assert "differ from this checkpoint's" not in printed


def test_a_ranker_of_others_is_served_by_its_own_name(mine, capsys):
    parser = argparse.ArgumentParser()
    serve_.add_arguments(parser)
    service = serve_._service(parser.parse_args(mine))
    assert (service.name, service.reranker.max_length) == ("ranker", 24)
    assert service.reranker.model.card.template.name == "words"
    assert "template words, labels green/no; is converted to" in capsys.readouterr().err


def test_a_ranker_in_a_store_is_converted_too(mine, tmp_path, monkeypatch):
    """Here fsspec's store in memory stands for one."""
    memory = fsspec.filesystem("memory")
    folder, template, _ = (word.partition("=")[2] for word in mine)
    for path in Path(folder).iterdir():
        memory.put_file(str(path), f"/bucket/ranker/{path.name}")
    found = Path(usable_checkpoint("memory://bucket/ranker", template))
    assert load_card(found).template.fill("q", "p") == "p q"
    assert found.name.rpartition("-")[2] == Path(usable_checkpoint(folder, template)).name.rpartition("-")[2]


def test_a_second_process_waits_and_does_again_what_a_killed_one_left(monot5, cache):
    converted = Path(usable_checkpoint(monot5))
    converted.rename(cache / f".{converted.name}.12345678.aside")
    with converted.with_name(f".{converted.name}.converting").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found: list[str | Path] = []
        second = threading.Thread(target=lambda: found.append(usable_checkpoint(monot5)))
        second.start()
        second.join(timeout=1)
        assert second.is_alive()
    second.join()
    assert found == [converted]
    assert load_card(converted).max_length == 512
    assert [path.name for path in cache.iterdir()] == [converted.name]


@pytest.fixture
def hub(monot5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The hub's API for one model on this machine; yields the paths that were asked for."""
    commit, asked = "0" * 39 + "1", []
    contents = {path.name: path.read_bytes() for path in monot5.iterdir() if path.suffix != ".vocab"}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if path == "/api/models/castorini/monot5-base-msmarco/revision/main":
                self._send(json.dumps({"id": "castorini/monot5-base-msmarco", "sha": commit, "siblings": []}).encode())
            elif path.startswith(f"/api/models/castorini/monot5-base-msmarco/tree/{commit}"):
                files = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in contents.items()]
                self._send(json.dumps(files).encode())
            elif path.startswith(f"/castorini/monot5-base-msmarco/resolve/{commit}/"):
                self._send(contents[path.rpartition("/")[2]])
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815  # http.server's own name

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), "ETag": _oid(body), "X-Repo-Commit": commit}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield asked
        server.shutdown()


def _oid(contents: bytes) -> str:
    return hashlib.sha1(contents).hexdigest()


def test_a_hub_id_is_fetched_by_the_hubs_own_client(hub, monot5, tmp_path, monkeypatch):
    converted = usable_checkpoint("castorini/monot5-base-msmarco")
    assert [path for path in hub if path.endswith("model.safetensors")]
    assert converted == usable_checkpoint(monot5)  # the same files
    absent = "no model 'castorini/monot5-none': no such directory, and (the hub has no|it is not in the hub's cache)"
    with pytest.raises(InputError, match=absent):
        usable_checkpoint("castorini/monot5-none")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    before = len(hub)
    assert usable_checkpoint("castorini/monot5-base-msmarco") == converted
    assert len(hub) == before
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="it is not in the hub's cache here, nor can the hub be reached"):
        usable_checkpoint("castorini/monot5-base-msmarco")
