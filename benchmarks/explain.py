"""What `explain` costs over the bare LLM, and what its care is worth: speed, memory, repeatability on this machine.

    python benchmarks/explain.py [--pairs 256] [--json FILE]

Every engine runs in a process of its own; rates are prompts per CPU-second, since on a busy machine wall time says
nothing. The bare rate is one `LLM.generate` of the same prompts in the same process, in turns with `explain`; of each
the faster round counts. Memory is measured with an engine that answers at once, so that only reading, prompting,
filtering and writing are left.
"""

import argparse
import hashlib
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from exaranker.errors import require
from exaranker.files import write_json
from exaranker.files.shipped import shipped
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.dataset.writer import open_dataset
from exaranker.preprocess.engines.base import Call, Completion, Engine, EngineInfo, Sampling
from exaranker.preprocess.engines.llms import find_llm, load_chat_tokenizer
from exaranker.preprocess.engines.runners import EngineSpec
from exaranker.preprocess.engines.vllm import VLLMConfig, VLLMEngine
from exaranker.preprocess.explain import Job, explain, pending, plan_of
from exaranker.preprocess.pairs.selection import select
from exaranker.preprocess.pairs.text import read_tsv
from exaranker.preprocess.prompts.prompter import Prompt, Prompter, load_style

LLM = find_llm("smollm2").path
CONFIG = ExplainerConfig()
PROMPTS = ("small", "exaranker")  # the embedded LLM's, with six worked examples; the paper's, with seven
T = TypeVar("T")


class Figure(NamedTuple):
    name: str
    value: float
    unit: str
    goal: str = ""


class Instant:
    """An engine that answers at once, by a digest of the prompt."""

    info = EngineInfo("digest", "always")

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: Prompt) -> list[list[Completion]]:
        digests = [hashlib.sha256(repr(prompt.token_ids).encode()).hexdigest()[:9] for prompt in prompts]
        return [[Completion(f"it speaks of {digest}.", "stop", 9, -0.5)] for digest in digests]

    def close(self) -> None:
        """There is nothing to let go of."""


class Open:
    """An engine that stays loaded from run to run."""

    def __init__(self, engine: VLLMEngine):
        self.info, self.generate = engine.info, engine.generate

    def close(self) -> None:
        """The process's end closes it."""


def job_over(pairs: Path, limit: int, start: Callable[[], Engine], config: ExplainerConfig = CONFIG) -> Job:
    prompter = Prompter(
        load_style(config.prompt),
        load_chat_tokenizer(LLM),
        chat=config.chat,
        max_passage_tokens=config.max_passage_tokens,
        max_prompt_tokens=config.context_tokens - config.max_tokens,
    )
    selection = select(partial(read_tsv, pairs), 1, limit)
    return Job(selection, pairs.name, config, prompter, "smollm2", "", EngineSpec({}, start))


@contextmanager
def cpu(spent: dict[str, float], name: str) -> Iterator[None]:
    """Keeps the least CPU seconds that the block took."""
    began = time.process_time()
    yield
    spent[name] = min(spent.get(name, float("inf")), time.process_time() - began)


def started(options: VLLMConfig, spent: dict[str, float]) -> VLLMEngine:
    with cpu(spent, "start-up"):
        require("tensorflow", "explain")
        return VLLMEngine(str(LLM), options, context_tokens=CONFIG.context_tokens)


def run_whole(job: Job, spent: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as folder, cpu(spent, "explain"):
        explain(job, folder)


def speed(pairs: Path, limit: int, rounds: int) -> list[Figure]:
    """`explain` beside the bare LLM, and the parts that are not the LLM."""
    spent: dict[str, float] = {}
    engine = started(VLLMConfig(), spent)
    job = job_over(pairs, limit, lambda: Open(engine))
    with cpu(spent, "tokenisation"):
        asked = [job.recipe.ask(shard) for shard in pending(job, set())]
    prompts = [prompt for one in asked for prompt in one.calls[0].prompts]
    engine.generate(prompts[:16], job.recipe.sampling, prompts[0])  # the first call warms the machine's caches
    for _ in range(rounds):
        run_whole(job, spent)
        engine.forget()
        with cpu(spent, "bare"):
            answers = engine.ask(prompts, job.recipe.sampling)
    rest = iter(answers)
    with cpu(spent, "filters"):
        results = [job.recipe.judge(one, [[next(rest) for _ in one.calls[0].prompts]]) for one in asked]
    with tempfile.TemporaryDirectory() as folder, cpu(spent, "writing"), open_dataset(folder, plan_of(job)) as dataset:
        for one, result in zip(asked, results, strict=True):
            dataset.add(one.shard.number, result, engine.info, 0.0)
    rate = {name: len(prompts) / spent[name] for name in ("bare", "explain")}
    parts = ("start-up", "tokenisation", "filters", "writing", "explain")
    return [
        Figure("bare LLM.generate", rate["bare"], "prompts/CPU-s"),
        Figure("explain", rate["explain"], "prompts/CPU-s"),
        Figure("explain / bare", rate["explain"] / rate["bare"], "x", ">= 0.95"),
        *(Figure(f"{name}, {len(prompts)} pairs", spent[name], "CPU-s") for name in parts),
    ]


def caching(pairs: Path, limit: int, prompt: str, cached: bool) -> list[Figure]:
    """A whole job with that prompt's worked examples, with prefix caching or without, in an engine of its own."""
    spent: dict[str, float] = {}
    engine = started(VLLMConfig(enable_prefix_caching=cached), spent)
    job = job_over(pairs, limit, lambda: Open(engine), replace(CONFIG, prompt=prompt))
    engine.generate([job.prompter.prefix()] * 2, job.recipe.sampling, job.prompter.prefix())  # warms the machine
    run_whole(job, spent)
    return [Figure(caching_name(prompt, cached), limit / spent["explain"], "prompts/CPU-s")]


def caching_name(prompt: str, cached: bool) -> str:
    return f"prompt {prompt}, {'with' if cached else 'without'} prefix caching"


def transformers(pairs: Path, limit: int) -> list[Figure]:
    """One left-padded batch through `generate`, bfloat16, up to the same length."""
    import torch
    from transformers import AutoModelForCausalLM

    job = job_over(pairs, limit, Instant)
    prompts = [list(p.token_ids) for shard in pending(job, set()) for p in job.recipe.ask(shard).calls[0].prompts]
    tokenizer = load_chat_tokenizer(LLM)
    tokenizer.padding_side = "left"
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(LLM, dtype=torch.bfloat16).eval()
    spent: dict[str, float] = {}
    with torch.inference_mode(), cpu(spent, "generate"):
        model.generate(
            **batch,
            max_new_tokens=CONFIG.max_tokens,
            do_sample=False,
            stop_strings=list(job.recipe.sampling.stop),
            tokenizer=tokenizer,
        )
    return [Figure("transformers generate", limit / spent["generate"], "prompts/CPU-s")]


def repeatability(pairs: Path, limit: int) -> list[Figure]:
    """How many texts differ when a shard is generated again: as `explain` does it, and with no care taken."""
    engine = started(VLLMConfig(), {})
    job = job_over(pairs, limit, lambda: Open(engine))
    prompts = [prompt for shard in pending(job, set()) for prompt in job.recipe.ask(shard).calls[0].prompts]
    call = Call(prompts, job.recipe.sampling, job.prompter.prefix())
    first = texts(engine.generate(*call))
    order = list(range(len(prompts)))
    random.Random(0).shuffle(order)
    shuffled = texts(engine.ask([prompts[i] for i in order], call.sampling))
    alone = [texts(engine.ask([prompt], call.sampling))[0] for prompt in prompts]
    again = texts(engine.generate(*call))
    back = [shuffled[order.index(i)] for i in range(len(order))]
    return [
        Figure(f"of {limit} texts, other when the shard is repeated", differing(first, again), "texts", "0"),
        Figure(f"of {limit} texts, other in another order, cache kept", differing(first, back), "texts"),
        Figure(f"of {limit} texts, other one by one, cache kept", differing(first, alone), "texts"),
    ]


def texts(answers: Sequence[Sequence[Completion]]) -> list[str]:
    return [samples[0].text for samples in answers]


def differing(first: Sequence[str], second: Sequence[str]) -> int:
    return sum(one != other for one, other in zip(first, second, strict=True))


def memory(limit: int) -> list[Figure]:
    """Peak resident memory of a whole run over `limit` made-up pairs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.tsv"
        with path.open("w") as stream:
            stream.writelines(f"{i % 2}\tquestion {i}\tpassage {i} {'of some length ' * 20}\n" for i in range(limit))
        explain(job_over(path, limit, Instant), Path(folder) / "out")
    return [Figure(f"peak memory, {limit} pairs", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MB")]


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """Runs it in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def ratios(figures: Sequence[Figure]) -> list[Figure]:
    """The goals that take two processes to measure."""
    value = {figure.name: figure.value for figure in figures}
    peaks = [figure.value for figure in figures if figure.name.startswith("peak memory")]
    gains = {prompt: value[caching_name(prompt, True)] / value[caching_name(prompt, False)] for prompt in PROMPTS}
    return [
        *(Figure(f"prompt {name}, with / without prefix caching", gain, "x", ">= 4") for name, gain in gains.items()),
        Figure("explain / transformers", value["explain"] / value["transformers generate"], "x"),
        Figure("peak memory, most pairs / fewest", peaks[-1] / peaks[0], "x", "<= 1.1"),
    ]


def table(figures: Sequence[Figure]) -> str:
    width = max(len(figure.name) for figure in figures)
    return "\n".join(f"{f.name:{width}} {f.value:10.3f} {f.unit:14} {f.goal}".rstrip() for f in figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=shipped("examples/sample") / "pairs.tsv", help="pairs, TSV")
    parser.add_argument("--pairs", type=int, default=256, help="explained beside the bare LLM (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of both (default: %(default)s)")
    parser.add_argument("--caching_pairs", type=int, default=64, help="of each prompt, twice (default: %(default)s)")
    parser.add_argument("--transformers_pairs", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--repeated_pairs", type=int, default=64, help="generated again (default: %(default)s)")
    parser.add_argument("--memory_pairs", type=int, nargs=2, default=(1_000, 100_000), metavar=("FEW", "MANY"))
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    figures = apart(speed, args.input, args.pairs, args.rounds)
    for prompt in PROMPTS:
        for cached in (True, False):
            figures += apart(caching, args.input, args.caching_pairs, prompt, cached)
    figures += apart(transformers, args.input, args.transformers_pairs)
    figures += apart(repeatability, args.input, args.repeated_pairs)
    figures += [figure for limit in args.memory_pairs for figure in apart(memory, limit)]
    figures += ratios(figures)
    print(table(figures))
    if args.json:
        write_json(args.json, [figure._asdict() for figure in figures])


if __name__ == "__main__":
    main()
