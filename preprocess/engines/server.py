"""An LLM behind OpenAI's API, such as `vllm serve`: each prompt is a request of its own, many are under way at once."""

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from exaranker.errors import InputError
from exaranker.preprocess.engines.base import Completion, EngineInfo, Sampling
from exaranker.preprocess.engines.server_client import ServerClient, ServerConfig
from exaranker.preprocess.prompts.prompter import Prompt

T = TypeVar("T")
Decode = Callable[[Sequence[int]], str]

# What `vllm serve` would else take from the model's generation_config.json, which the offline engine does not read.
PLAIN_SAMPLING = {"repetition_penalty": 1.0, "top_k": 0, "min_p": 0.0}


class ServerEngine:
    """Satisfies `Engine`; may be asked by several threads at once.

    Args:
        decode: token ids -> text, for servers that do not take token ids.
    """

    def __init__(self, config: ServerConfig, decode: Decode):
        self._config, self._decode = config, decode
        self._lock, self._closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._client = self._run(self._connect())
            self._model = config.model or self._run(self._client.ask("models", None, _only_model))
        except BaseException:
            self._stop()
            raise

    @property
    def info(self) -> EngineInfo:
        why = "no: the server batches requests as they come"
        return EngineInfo(f"server, {self._model}", why, names_model=True)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: Prompt) -> list[list[Completion]]:
        """Satisfies `Engine.generate`; a server keeps its own prefix cache, so `prefix` is not used.

        Raises:
            InputError: the server refuses a request, or keeps failing; the other requests are given up.
        """
        return self._run(self._all(prompts, sampling))

    def close(self) -> None:
        """Gives up what is under way; nothing new is begun."""
        with self._lock:
            self._closed = True
            finishing = asyncio.run_coroutine_threadsafe(self._finish(), self._loop)
        finishing.result()
        self._stop()

    async def _connect(self) -> ServerClient:
        return ServerClient(self._config)

    async def _all(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        tasks = [asyncio.create_task(self._one(prompt, sampling)) for prompt in prompts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        if self._config.prompts == "messages":
            return await self._client.ask("chat/completions", self._chat_body(prompt, sampling), chat_completions)
        body = self._body(prompt, sampling)
        return await self._client.ask("completions", body, lambda reply: completions(reply, sampling.label_tokens))

    def _body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """Of /completions."""
        if self._config.prompts == "text":
            body = {"prompt": self._decode(prompt.token_ids)} | self._sampling(sampling)
        else:  # only vLLM is sent token ids
            body = {"prompt": prompt.token_ids} | PLAIN_SAMPLING | self._sampling(sampling)
        if not sampling.label_tokens:
            return body | {"logprobs": 0}
        wanted = {"logprob_token_ids": sampling.label_tokens, "return_tokens_as_token_ids": True}
        return body | wanted | {"logprobs": len(sampling.label_tokens)}

    def _chat_body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        messages = [message._asdict() for message in prompt.messages]
        return self._sampling(sampling) | {"messages": messages, "logprobs": True}

    def _sampling(self, sampling: Sampling) -> dict[str, Any]:
        given = {
            "model": self._model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "n": sampling.samples,
            "stop": list(sampling.stop) or None,
            "seed": sampling.seed if sampling.temperature > 0 else None,
        }
        return {name: value for name, value in given.items() if value is not None} | self._config.extra_body

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._closed:
                work.close()
                raise CancelledError("the engine is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def completions(reply: dict[str, Any], labels: Sequence[int] = ()) -> list[Completion]:
    """A reply of /completions -> ours.

    Raises:
        InputError: the label tokens' log-probabilities were asked for and are not there.
    """
    choices = _choices(reply)
    return [
        _completion(reply, choice, choice["text"], (choice.get("logprobs") or {}).get("token_logprobs"))._replace(
            label_logprobs=_label_logprobs(choice, labels)
        )
        for choice in choices
    ]


def chat_completions(reply: dict[str, Any]) -> list[Completion]:
    """A reply of /chat/completions -> ours."""
    result = []
    for choice in _choices(reply):
        content = (choice.get("logprobs") or {}).get("content")
        logprobs = None if content is None else [token["logprob"] for token in content]
        result.append(_completion(reply, choice, choice["message"]["content"], logprobs))
    return result


def _choices(reply: dict[str, Any]) -> list[dict[str, Any]]:
    choices = sorted(reply["choices"], key=lambda choice: choice["index"])
    if not choices:
        raise ValueError("a reply without a choice")
    return choices


def _completion(reply: dict[str, Any], choice: dict[str, Any], text: Any, logprobs: list[float] | None) -> Completion:
    """Servers that give no log-probabilities count the tokens of all samples together."""
    if not isinstance(text, str) or not isinstance(choice["finish_reason"], str):
        raise TypeError("text and finish_reason are strings")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # JSON may hold half a surrogate pair
    count = len(logprobs) if logprobs is not None else reply["usage"]["completion_tokens"] // len(reply["choices"])
    mean = sum(logprobs) / count if logprobs else 0.0
    if not (isinstance(count, int) and count >= 0 and math.isfinite(mean)):
        raise ValueError(f"{count} tokens with a mean log-probability of {mean}")
    return Completion(text, choice["finish_reason"], count, mean)


def _label_logprobs(choice: dict[str, Any], labels: Sequence[int]) -> tuple[float, ...]:
    if not labels:
        return ()
    found = ((choice.get("logprobs") or {}).get("top_logprobs") or [{}])[0]
    try:
        return tuple(found[f"token_id:{label}"] for label in labels)
    except KeyError as error:
        hint = "vllm serve does; without one, leave out explainer.relevance_prompt"
        raise InputError("asking for relevance needs a server that takes logprob_token_ids", hint=hint) from error


def _only_model(reply: dict[str, Any]) -> str:
    names = [model["id"] for model in reply["data"]]
    if len(names) != 1:
        raise InputError(f"the server has the models {names}", hint="name one: --gin.server.model=\"'NAME'\"")
    return names[0]
