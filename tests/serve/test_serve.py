"""What the server refuses, bounds and drops, and how it ends: over a real socket, with real processes."""

import concurrent.futures
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from exaranker.rank.reranker import RankedPassage, Reranker
from exaranker.templates import cut_passage

KEY = {"Authorization": "Bearer s3cret"}
CLIENT = httpx.Client(timeout=60)  # the first explanation of a server is compiled


@pytest.fixture(scope="module")
def strict(start: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a key and narrow limits."""
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text("s3cret\n")
    limits = ["--max_payload=200000", "--max_documents=600", "--max_waiting_tokens=1000"]
    with start(f"--api_key_file={key}", *limits) as (address, _):
        yield address


def metric(address: str, name: str, headers: dict[str, str] | None = None) -> float:
    """The value on the line of a metric that begins so, or 0."""
    lines = CLIENT.get(f"{address}/metrics", headers=headers).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


def eventually(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_answers_have_all_fields_of_their_api(url: str) -> None:
    body = {"query": "q", "documents": ["one", "two", {"text": "three"}], "top_n": 2, "user": "ignored", "explain": 1}
    answer = CLIENT.post(f"{url}/rerank", json=body).json()
    assert answer.keys() == {"id", "model", "usage", "meta", "results"}
    assert answer["model"] == "tiny"
    assert [found.keys() for found in answer["results"]] == [
        {"index", "relevance_score", "document", "label", "explanation"},
        {"index", "relevance_score", "document"},
    ]
    assert "document" not in CLIENT.post(f"{url}/v2/rerank", json=body).json()["results"][0]
    texts = CLIENT.post(f"{url}/rerank", json={"query": "q", "texts": ["one", "two"], "return_text": True})
    assert [found.keys() for found in texts.json()] == [{"index", "score", "text"}] * 2
    assert texts.headers["x-compute-type"] == "cpu"
    assert int(texts.headers["x-compute-characters"]) == 6
    score = CLIENT.post(f"{url}/score", json={"queries": ["a", "b"], "documents": ["c", "d"]}).json()
    assert [found.keys() for found in score["data"]] == [{"index", "object", "score"}] * 2
    models = CLIENT.get(f"{url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["tiny"]
    assert CLIENT.get(f"{url}/info").json()["max_input_length"] == 512
    assert CLIENT.get(f"{url}/health").status_code == 200
    assert "/v2/rerank" in CLIENT.get(f"{url}/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("route", "content", "status", "reason"),
    [
        ("/rerank", b'{"query": "q", "documents": ["a"', 400, "the body is no JSON: Expecting"),
        ("/rerank", b"[1, 2]", 400, "body: Input should be a valid dictionary or object"),
        ("/v1/rerank", b'{"query": "q"}', 400, "documents: Field required"),
        ("/v2/rerank", b'{"query": 3, "documents": ["a"]}', 400, "query: Input should be a valid string"),
        ("/rerank", b'{"query": "q", "documents": ["a"], "top_n": -1}', 400, "top_n: Input should be greater than"),
        ("/rerank", b'{"query": "q", "documents": ["\\ud800"]}', 400, "half of a surrogate pair"),
        ("/rerank", b'{"query": "q", "documents": []}', 400, "no documents"),
        ("/rerank", b'{"query": "q", "documents": ["a"], "truncation_side": "up"}', 400, "Input should be 'left' or"),
        ("/score", b'{"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}', 400, "2 texts with 3"),
        ("/nowhere", b"{}", 404, "Not Found"),
    ],
)
def test_bad_requests_are_answered_as_vllm_and_cohere_do(
    url: str, route: str, content: bytes, status: int, reason: str
) -> None:
    answer = CLIENT.post(url + route, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert reason in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"query": "q", "texts": []}, 400, "Empty"),
        ({"query": "q", "texts": [1]}, 422, "Validation"),
        ({"query": "q", "texts": ["a"], "truncation_direction": "Up"}, 422, "Validation"),
        ({"query": "why " * 600, "texts": ["a"]}, 422, "Tokenizer"),
        ({"query": "q", "texts": ["a"] * 2049}, 413, "Validation"),
    ],
)
def test_bad_requests_are_answered_as_tei_does(url: str, body: dict[str, Any], status: int, kind: str) -> None:
    answer = CLIENT.post(f"{url}/rerank", json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    assert answer.json().keys() == {"error", "error_type"}


def test_a_thousand_documents_long_ones_too(url: str, reranker: Reranker, same_score: float) -> None:
    """A long document is read as far as the model reads; characters that are behind change nothing."""
    documents = [f"passage {index} of a thousand" for index in range(998)] + ["bees " * 100_000, "bees " * 600]
    answer = CLIENT.post(f"{url}/rerank", json={"query": "q", "texts": documents, "raw_scores": True})
    scores = {found["index"]: found["score"] for found in answer.json()}
    assert len(scores) == 1000
    assert scores[998] == pytest.approx(scores[999], abs=same_score)
    expected = list(reranker.score([("q", text) for text in documents[::99]]))
    assert [scores[index] for index in range(0, 1000, 99)] == pytest.approx(expected, abs=same_score)


LONG = "A capo presses strings down. " * 200 + "Bees make honey."


def scored(url: str, **body: Any) -> float:
    """The log-odds of LONG."""
    answer = CLIENT.post(f"{url}/rerank", json={"query": "bees", "raw_scores": True, **body}).json()
    return float(answer["results"][0]["relevance_score"] if isinstance(answer, dict) else answer[0]["score"])


def test_a_long_text_is_cut_as_the_request_says(url: str, reranker: Reranker, same_score: float) -> None:
    """At either end, in TEI's and in vLLM's words, to fewer tokens, and its query too; explained is what was read."""
    tokenizer, template = reranker.model.tokenizer, reranker.model.card.template
    end = cut_passage(tokenizer, template, "bees", LONG, 512, keep_end=True)
    assert (LONG.endswith(end), len(end) > 500) == (True, True)
    tokens = len(tokenizer.token_ends("bees"))
    first, last, short = reranker.score([("bees", LONG), ("bees", end), ("bees", LONG[:26])])
    assert abs(first - last) > 10 * same_score
    same = partial(pytest.approx, abs=same_score)
    for texts in ({}, {"truncate": True}, {"truncation_direction": "Right"}):
        assert scored(url, texts=[LONG], **texts) == same(first)
    assert scored(url, texts=[LONG], truncation_direction="Left") == same(last)
    assert scored(url, documents=[LONG], truncation_side="left", truncate_prompt_tokens=-1) == same(last)
    [expected] = replace(reranker, max_length=64).score([("bees", LONG)])
    assert scored(url, documents=[LONG], truncate_prompt_tokens=64) == same(expected)
    assert scored(url, documents=[LONG[:26]], query="bees " * 9, max_tokens_per_query=tokens) == same(short)
    answer = CLIENT.post(
        f"{url}/score", json={"text_1": "bees", "text_2": LONG, "truncation_side": "left", "use_activation": False}
    )
    assert answer.json()["data"][0]["score"] == same(last)
    told = CLIENT.post(
        f"{url}/rerank", json={"query": "bees", "texts": [LONG], "truncation_direction": "Left", "explain": 1}
    )
    assert told.json()[0]["explanation"] == reranker.explain([("bees", end)], [last])[0].explanation


def test_a_text_that_must_not_be_cut_is_refused(url: str) -> None:
    for text in (LONG, "bees " * 100_000):
        answer = CLIENT.post(f"{url}/rerank", json={"query": "bees", "texts": ["short", text], "truncate": False})
        assert answer.status_code == 413
        assert answer.json() == {
            "error": "a pair has more than 512 tokens, and is not to be cut",
            "error_type": "Validation",
        }
    answer = CLIENT.post(f"{url}/rerank", json={"query": "bees", "texts": ["short"], "truncate": False})
    assert answer.status_code == 200
    too_many = CLIENT.post(f"{url}/rerank", json={"query": "q", "documents": ["a"], "truncate_prompt_tokens": 513})
    assert too_many.status_code == 400
    assert too_many.json()["message"] == "513 tokens of an input are asked for, the model reads at most 512"


def test_requests_at_once_get_their_own_answers(
    url: str, reranker: Reranker, passages: list[str], same_score: float
) -> None:
    """16 clients with as many queries and other numbers of documents."""

    def ask(number: int) -> list[float]:
        texts = passages[number : number * 4 + 1]
        answer = CLIENT.post(
            f"{url}/score", json={"text_1": f"query {number}", "text_2": texts, "use_activation": False}
        )
        return [found["score"] for found in answer.json()["data"]]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    for number, answer in enumerate(answers):
        pairs = [(f"query {number}", text) for text in passages[number : number * 4 + 1]]
        assert answer == pytest.approx(list(reranker.score(pairs)), abs=same_score)


def test_an_explanation_is_streamed_as_it_is_written(
    url: str, query: str, ranking: list[RankedPassage], same_score: float
) -> None:
    body = {"query": query, "document": ranking[0].passage}
    with CLIENT.stream("POST", f"{url}/explain", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.partition(": ")[2] for line in answer.iter_lines() if line]
    events = [(lines[place], json.loads(lines[place + 1])) for place in range(0, len(lines), 2)]
    names = [name for name, _ in events]
    assert names == ["label", *["piece"] * (len(names) - 2), "done"]
    assert len(names) > 10
    assert events[0][1]["score"] == pytest.approx(ranking[0].score, abs=same_score)
    assert "".join(data["text"] for name, data in events if name == "piece") == ranking[0].explanation
    assert events[-1][1] == {"explanation": ranking[0].explanation}


def test_neither_tensorflow_nor_torch_is_loaded(served: tuple[str, "subprocess.Popen[str]"]) -> None:
    address, process = served
    body = {"query": "q", "documents": ["a"], "explain": 1}
    assert CLIENT.post(f"{address}/rerank", json=body).status_code == 200
    libraries = Path(f"/proc/{process.pid}/maps").read_text()
    assert "jaxlib" in libraries
    assert [name for name in ("tensorflow", "libtorch") if name in libraries] == []


def test_a_key_is_asked_for_but_not_for_health(strict: str) -> None:
    body = {"query": "q", "documents": ["a"]}
    refused = CLIENT.post(f"{strict}/rerank", json=body)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert CLIENT.post(f"{strict}/rerank", json=body, headers={"Authorization": "Bearer other"}).status_code == 401
    assert CLIENT.post(f"{strict}/rerank", json=body, headers=KEY).status_code == 200
    assert CLIENT.get(f"{strict}/health").status_code == 200


def test_a_payload_that_is_too_large_is_not_read(strict: str) -> None:
    body = json.dumps({"query": "q", "documents": ["a" * 300_000]}).encode()
    headers = {**KEY, "Content-Type": "application/json"}
    told = CLIENT.post(f"{strict}/rerank", content=body, headers=headers)
    streamed = CLIENT.post(f"{strict}/rerank", content=iter([body]), headers=headers)  # of no known length
    for answer in (told, streamed):
        assert answer.status_code == 413
        assert "longer than 200,000 bytes" in answer.json()["message"]
    many = CLIENT.post(f"{strict}/rerank", json={"query": "q", "documents": ["a"] * 601}, headers=KEY)
    assert (many.status_code, many.json()["message"]) == (413, "601 documents, expected at most 600")


def test_beyond_the_queues_bound_429_says_when_to_try_again(strict: str) -> None:
    large = {"query": "q", "texts": ["bees make honey " * 20] * 600}
    small = {"query": "q", "texts": ["bees make honey " * 20] * 20}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(CLIENT.post, f"{strict}/rerank", json=large, headers=KEY) for _ in range(3)]
        answers = []
        while not all(future.done() for future in running):
            answers.append(CLIENT.post(f"{strict}/rerank", json=small, headers=KEY))
        answers += [future.result() for future in running]
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error_type"] == "Overloaded"
    eventually(lambda: metric(strict, "exaranker_waiting_tokens", KEY) == 0)


def test_the_work_of_a_client_that_has_gone_is_dropped(url: str) -> None:
    gone = 'exaranker_requests_total{route="/rerank",status="gone"}'
    body = json.dumps({"query": "q", "documents": ["bees make honey " * 150] * 2000}).encode()
    head = f"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    before, tokens = metric(url, gone), metric(url, "exaranker_tokens_total")
    address = (httpx.URL(url).host, httpx.URL(url).port)
    with socket.create_connection(address) as cut_off:
        cut_off.sendall(head.encode() + body[:1000])
    with socket.create_connection(address) as connection:
        connection.sendall(head.encode() + body)
        eventually(lambda: metric(url, "exaranker_waiting_tokens") > 0)
    eventually(lambda: metric(url, gone) == before + 2)
    assert metric(url, "exaranker_waiting_tokens") == 0
    assert metric(url, "exaranker_tokens_total") - tokens < 2000 * 300
    assert metric(url, "exaranker_open_requests") == 1  # the one that asks


def test_sigterm_answers_what_is_open_and_takes_nothing_new(start: Any) -> None:
    body = {"query": "q", "texts": ["bees make honey " * 60] * 100}
    answers: list[httpx.Response] = []
    with start() as (address, process):
        asking = threading.Thread(target=lambda: answers.append(CLIENT.post(f"{address}/rerank", json=body)))
        asking.start()
        eventually(lambda: metric(address, "exaranker_waiting_tokens") > 0)
        process.send_signal(signal.SIGTERM)
        asking.join()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")
    assert answers[0].status_code == 200
    assert len(answers[0].json()) == 100
