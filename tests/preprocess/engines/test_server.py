"""The server engine against a real HTTP server on this machine that misbehaves as it is told."""

import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from pathlib import Path

import pytest

from exaranker import schema
from exaranker.errors import InputError
from exaranker.files import read_json
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.base import Sampling
from exaranker.preprocess.engines.llms import decoder
from exaranker.preprocess.engines.registry import ENGINES
from exaranker.preprocess.engines.runners import EngineSpec, run_overlapping
from exaranker.preprocess.engines.server import ServerEngine, completions
from exaranker.preprocess.engines.server_client import ServerConfig
from exaranker.preprocess.engines.vllm import VLLMConfig
from exaranker.preprocess.explain import explain
from exaranker.preprocess.gin_config import ExplainConfig
from exaranker.preprocess.pairs.text import with_text_ids
from exaranker.preprocess.prompts.prompter import Message, Prompt, Prompter, load_style

GREEDY = Sampling(max_tokens=8, stop=("\n",))
PROMPTS = [Prompt((i, i + 1), (), "") for i in range(6)]


def good(body):
    """What a well-meaning server replies: a text that only depends on the prompt."""
    if body is None:
        return {"data": [{"id": "llm"}]}
    texts = [f" it speaks of {body['prompt']}." for _ in range(body.get("n", 1))]
    tokens = {"token_logprobs": [-0.5, -0.25]}
    choices = [{"index": i, "text": text, "finish_reason": "stop", "logprobs": tokens} for i, text in enumerate(texts)]
    return {"choices": choices, "usage": {"completion_tokens": 2 * len(choices)}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(None)

    def do_POST(self):
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body):
        server = self.server
        with server.lock:
            server.bodies.append((self.path, body, self.headers.get("Authorization")))
            server.times.append(time.monotonic())
            number = len(server.bodies) - 1
            server.now += 1
            server.most = max(server.most, server.now)
        reply = server.script(number, body)
        with server.lock:
            server.now -= 1
        if reply == "drop":
            self.close_connection = True
            return
        if reply == "drip":
            self.drip()
            return
        status, headers, data = reply if isinstance(reply, tuple) else (200, {}, json.dumps(reply).encode())
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def drip(self):
        """A byte every 0.1 s, for 3 s or until the other side has had enough."""
        self.send_response(200)
        self.send_header("Content-Length", "30")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            for _ in range(30):
                self.wfile.write(b" ")
                time.sleep(0.1)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that hangs up is what some tests are about: no traceback among another test's output."""


@contextmanager
def serving(script):
    """A server whose reply to request `number` with `body` is `script(number, body)`; keeps what it was sent."""
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.script, server.lock, server.bodies, server.times, server.now, server.most = (
        script, threading.Lock(), [], [], 0, 0,
    )  # fmt: skip
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def config_for(server, **fields):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    defaults = {"model": "llm", "first_wait_seconds": 0.001, "longest_wait_seconds": 0.01, "timeout_seconds": 20.0}
    return ServerConfig(url, **{**defaults, **fields})


@contextmanager
def engine_for(server, **fields):
    engine = ServerEngine(config_for(server, **fields), lambda ids: f"<{ids[0]}>")
    try:
        yield engine
    finally:
        engine.close()


def generate(script, sampling=GREEDY, **fields):
    with serving(script) as server, engine_for(server, **fields) as engine:
        return engine.generate(PROMPTS, sampling, PROMPTS[0]), server


def test_every_prompt_is_answered_in_order():
    answers, server = generate(lambda _, body: good(body))
    assert [answer[0].text for answer in answers] == [f" it speaks of {[i, i + 1]}." for i in range(6)]
    assert answers[0][0][1:] == ("stop", 2, -0.375, ())
    path, body, _ = next(sent for sent in server.bodies if sent[1]["prompt"] == [0, 1])
    assert path == "/v1/completions"
    assert body == {
        "model": "llm", "prompt": [0, 1], "max_tokens": 8, "temperature": 0.0, "top_p": 1.0, "n": 1, "stop": ["\n"],
        "logprobs": 0, "repetition_penalty": 1.0, "top_k": 0, "min_p": 0.0,
    }  # fmt: skip


def test_samples_and_seed_are_sent_when_there_is_chance():
    answers, server = generate(lambda _, body: good(body), Sampling(8, temperature=0.7, samples=3, seed=5))
    assert [len(answer) for answer in answers] == [3] * 6
    assert (server.bodies[0][1]["seed"], server.bodies[0][1]["n"]) == (5, 3)
    assert "stop" not in server.bodies[0][1]


def test_prompts_as_text():
    answers, server = generate(lambda _, body: good(body), prompts="text")
    assert answers[3][0].text == " it speaks of <3>."
    assert "top_k" not in server.bodies[1][1]  # other servers refuse what they do not know


def test_what_one_server_knows_is_sent_and_part_of_the_settings():
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    _, server = generate(lambda _, body: good(body), extra_body=extra)
    assert [body["chat_template_kwargs"] for _, body, _ in server.bodies if body] == [{"enable_thinking": False}] * 6
    assert ServerConfig(extra_body=extra).text_settings == {"model": None, "prompts": "tokens", "extra_body": extra}


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    def torn(_, body):
        reply = good(body)
        if body is not None:
            reply["choices"][0]["text"] = "it says \ud83d"
        return reply

    answers, _ = generate(torn)
    assert {answer[0].text for answer in answers} == {"it says \ufffd"}


def test_prompts_as_messages():
    def chat(_, body):
        said = body["messages"][-1]["content"]
        return {"choices": [{"index": 0, "message": {"content": said.upper()}, "finish_reason": "length"}],
                "usage": {"completion_tokens": 4}}  # fmt: skip

    with serving(chat) as server, engine_for(server, prompts="messages") as engine:
        prompt = Prompt((1,), (Message("user", "why"), Message("assistant", "so"), Message("user", "and")), "")
        assert engine.generate([prompt], GREEDY, prompt) == [[("AND", "length", 4, 0.0, ())]]
    path, body, _ = server.bodies[0]
    assert path == "/v1/chat/completions"
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


def test_label_probabilities():
    def scores(_, body):
        assert body["logprob_token_ids"] == [7, 9]
        assert body["max_tokens"] == 1
        top = {"token_id:3": -0.1, "token_id:7": log(0.2), "token_id:9": log(0.6)}
        logprobs = {"token_logprobs": [-0.1], "top_logprobs": [top]}
        return {"choices": [{"index": 0, "text": "x", "finish_reason": "length", "logprobs": logprobs}]}

    answers, _ = generate(scores, Sampling(1, label_tokens=(7, 9)))
    assert answers[0][0].label_logprobs == pytest.approx((log(0.2), log(0.6)))
    with pytest.raises(InputError, match=r"needs a server that takes logprob_token_ids \(vllm serve does; without"):
        generate(lambda _, body: good(body), Sampling(1, label_tokens=(7, 9)))


@pytest.mark.parametrize(
    "failure",
    [
        (500, {}, b"out of memory"),
        (503, {}, b""),
        (429, {"Retry-After": "0"}, b""),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""),
        (200, {}, b'{"choices": [{"index": 0, "te'),
        (200, {}, b"<html>gateway</html>"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"index": 0, "text": null, "finish_reason": "stop"}]}'),
        (200, {}, b"[]"),
        "drop",
    ],
)
def test_what_may_pass_is_tried_again(failure):
    """Each of the first six requests fails; every prompt is answered all the same."""
    expected, _ = generate(lambda _, body: good(body))
    answers, server = generate(lambda number, body: failure if number < 6 else good(body))
    assert answers == expected
    assert len(server.bodies) == 12


@pytest.mark.parametrize(
    ("logprobs", "tokens"), [([-0.5, float("nan")], 2), ([float("-inf")], 1), (None, -3), (None, "2"), (["-0.5"], 1)]
)
def test_figures_that_cannot_be_are_not_believed(logprobs, tokens):
    choice = {"index": 0, "text": "so.", "finish_reason": "stop", "logprobs": {"token_logprobs": logprobs}}
    with pytest.raises((ValueError, TypeError)):  # as any other reply that is none: it is asked for again
        completions({"choices": [choice], "usage": {"completion_tokens": tokens}})


def test_an_answer_that_does_not_come_is_asked_for_again():
    def slow(number, body):
        time.sleep(2.0 if number == 0 else 0)
        return good(body)

    answers, server = generate(slow, timeout_seconds=0.4)
    assert len(answers) == 6
    assert len(server.bodies) == 7


def test_an_answer_that_drips_in_is_asked_for_again():
    began = time.monotonic()
    answers, server = generate(lambda number, body: good(body) if number else "drip", timeout_seconds=0.5)
    assert len(answers) == 6
    assert len(server.bodies) == 7
    assert time.monotonic() - began < 2.5


def test_attempts_are_bounded():
    with serving(lambda *_: (500, {}, b"broken")) as server, engine_for(server, max_attempts=3) as engine:
        message = r"http://127.0.0.1:\d+/v1: no answer in 3 attempts: TryAgainError status 500 \(finished shards are"
        with pytest.raises(InputError, match=message):
            engine.generate(PROMPTS[:1], GREEDY, PROMPTS[0])
    assert len(server.bodies) == 3


def test_a_server_that_is_not_there_is_named():
    with serving(lambda _, body: good(body)) as server:
        config = config_for(server, model=None, max_attempts=2)
    with pytest.raises(InputError, match=rf"{config.base_url}: no answer in 2 attempts: ConnectError"):
        ServerEngine(config, str)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_final_and_shown(status):
    with serving(lambda *_: (status, {}, b'{"error":\n "no such model"}')) as server, engine_for(server) as engine:
        with pytest.raises(InputError, match=rf'completions: status {status}: {{"error": "no such model"}} \(see serv'):
            engine.generate(PROMPTS[:1], GREEDY, PROMPTS[0])
        assert len(server.bodies) == 1


def test_retry_after_is_waited_for():
    reply = (429, {"Retry-After": "0.5"}, b"")
    with serving(lambda number, body: good(body) if number else reply) as server, engine_for(server) as engine:
        engine.generate(PROMPTS[:1], GREEDY, PROMPTS[0])
    assert server.times[1] - server.times[0] >= 0.5


def test_concurrency_is_bounded():
    def slow(_, body):
        time.sleep(0.05)
        return good(body)

    _, server = generate(slow, concurrency=2)
    assert server.most == 2


def test_requests_are_spaced_by_the_rate_limit():
    _, server = generate(lambda _, body: good(body), requests_per_second=20)
    assert server.times[-1] - server.times[0] >= 5 / 20 - 0.03


def test_the_key_is_sent_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sesame")
    _, server = generate(lambda _, body: good(body), api_key_env="MY_KEY")
    assert {authorization for _, _, authorization in server.bodies} == {"Bearer sesame"}


def test_the_model_is_asked_for():
    with serving(lambda _, body: good(body)) as server, engine_for(server, model=None) as engine:
        assert engine.info.version == "server, llm"
        assert engine.info.repeatable.startswith("no: ")
    several = {"data": [{"id": "one"}, {"id": "two"}]}
    with serving(lambda *_: several) as server, pytest.raises(InputError, match=r"has the models \['one', 'two'\] \(n"):
        ServerEngine(config_for(server, model=None), str)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": "token"}, r"server.prompts is 'token', .* \(did you mean tokens\?\)"),
        ({"concurrency": 0}, r"server.concurrency is 0, expected at least 1"),
        ({"requests_per_second": 0}, r"server.requests_per_second is 0, expected more than 0"),
    ],
)
def test_bad_options(fields, message):
    with pytest.raises(InputError, match=message):
        ServerConfig(**fields)


def test_a_chat_server_cannot_begin_an_answer():
    config = ExplainConfig(server=ServerConfig(prompts="messages"))
    with pytest.raises(InputError, match=r"no answer can be begun .*explainer.prompt=\"'exaranker'\""):
        ENGINES["server"](config)
    spec = ENGINES["server"](replace(config, explainer=ExplainerConfig(prompt="exaranker")))
    assert spec.settings == {"name": "server", "model": None, "prompts": "messages"}


def test_ray_and_vllm_share_their_settings():
    config = ExplainConfig(vllm=VLLMConfig(dtype="bfloat16"))
    here, elsewhere = (ENGINES[name](config) for name in ("vllm", "ray"))
    assert here.settings == elsewhere.settings
    assert here.settings["dtype"] == "bfloat16"


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_sent_as_text_are_the_same_tokens(llm_dir, tokenizer, chat):
    style = load_style("small")
    prompter = Prompter(style, tokenizer, chat=chat, max_passage_tokens=64, max_prompt_tokens=1900)
    prompt = prompter.build([with_text_ids("what is é", "It is 100 % – a letter.", 1)], 1)[0]
    assert tuple(tokenizer(decoder(llm_dir)(prompt.token_ids)).input_ids) == prompt.token_ids


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in ("run.json", ".writer")}


def served(job, server, **fields):
    config = config_for(server, max_attempts=2, **fields)
    spec = EngineSpec({"name": "server", **config.text_settings}, lambda: ServerEngine(config, str), run_overlapping)
    return job._replace(engine=spec)


def test_a_server_that_dies_loses_no_finished_shard(tmp_path, make_job, pairs):
    """Ten pairs in shards of 2: the first dies within the fourth, the next run asks for what is missing only."""
    with serving(lambda _, body: good(body)) as server:
        explain(served(make_job(pairs, shard_size=2), server), tmp_path / "whole")
        assert len(server.bodies) == 10
    with serving(lambda number, body: good(body) if number < 7 else "drop") as server:
        dying = served(make_job(pairs, shard_size=2), server, concurrency=1)
        with pytest.raises(InputError, match=r"no answer in 2 attempts: RemoteProtocolError .* run the same command"):
            explain(dying, tmp_path / "cut")
    with pytest.raises(InputError, match=r"the dataset is unfinished: [23] of 5 shards"):
        schema.verify(tmp_path / "cut")
    with serving(lambda _, body: good(body)) as server:
        explain(served(make_job(pairs, shard_size=2), server), tmp_path / "cut")
        assert len(server.bodies) in (4, 6)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_sigkill_anywhere_then_rerun_gives_the_same_bytes(tmp_path, llm_dir):
    """The server lives on; two shards are under way at once, so as many may be asked for again."""
    asked = tmp_path / "asked"

    def noting(_, body):
        with asked.open("a") as stream:
            stream.write(".")
        return good(body)

    with serving(noting) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        script = Path(__file__).parents[1] / "kill_points.py"
        command = [sys.executable, str(script), str(tmp_path), str(llm_dir), str(asked), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kills, _, rest = done.stdout.splitlines()[-1].partition(" kills, ")
    assert int(kills) >= 40
    assert re.search(r"all equal, at most [4-8] of 11 pairs repeated$", rest)


def test_another_model_behind_the_same_address_is_refused(tmp_path, make_job, pairs):
    def having(name, dies_at):
        def script(number, body):
            if body is None:
                return {"data": [{"id": name}]}
            return good(body) if number < dies_at else "drop"

        return script

    job = make_job(pairs[:6], shard_size=2)
    with serving(having("small", dies_at=4)) as server, pytest.raises(InputError, match="no answer in 2 attempts"):
        explain(served(job, server, model=None, concurrency=1), tmp_path)
    before = contents(tmp_path)
    assert "explanations-00000-of-00003.tfrecord" in before
    with serving(having("large", dies_at=99)) as server:
        expected = rf"{tmp_path}: this dataset was begun by 'server, small', not by 'server, large' \(give another --ou"
        with pytest.raises(InputError, match=expected):
            explain(served(job, server, model=None), tmp_path)
    assert contents(tmp_path) == before


def test_the_seconds_of_shards_add_up_to_the_runs(tmp_path, make_job, pairs):
    """Two shards at once of an answer each that takes 0.5 s: 5 shards take 3 rounds, not 5."""

    def slow(_, body):
        time.sleep(0.5)
        return good(body)

    with serving(slow) as server:
        began = time.monotonic()
        explain(served(make_job(pairs[:5], shard_size=1), server), tmp_path)
        took = time.monotonic() - began
    seconds = read_json(tmp_path / "run.json")["seconds"].values()
    assert len(seconds) == 5
    assert 1.2 < sum(seconds) < took


def test_closing_gives_up_what_is_under_way():
    """The server would take 30 s; both the waiting call and a later one end at once."""
    asked = threading.Event()

    def never(_, body):
        asked.set()
        time.sleep(30)
        return good(body)

    outcome = []

    def call(engine):
        try:
            engine.generate(PROMPTS[:1], GREEDY, PROMPTS[0])
        except CancelledError:
            outcome.append("cancelled")

    with serving(never) as server:
        engine = ServerEngine(config_for(server), str)
        waiting = threading.Thread(target=call, args=(engine,))
        waiting.start()
        assert asked.wait(10)
        engine.close()
        waiting.join(5)
        call(engine)
        assert outcome == ["cancelled", "cancelled"]


def test_two_shards_are_asked_for_at_once(tmp_path, make_job, pairs):
    """Each shard has 2 requests; with 4 under way at once, the second shard did not wait for the first."""
    together = threading.Barrier(4, timeout=10)

    def meeting(number, body):
        if number < 4:
            together.wait()
        return good(body)

    with serving(meeting) as server:
        manifest = explain(served(make_job(pairs[:4], shard_size=2), server), tmp_path)
    assert [shard["pairs"] for shard in manifest["shards"]] == [2, 2]
