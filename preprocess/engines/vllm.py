"""vLLM in this process: a whole shard is one `generate` call on a prefix cache that is emptied and warmed alike.

Greedy text depends on how requests share batches and on what the prefix cache holds, so neither may depend on
which shards came before.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

from tqdm import tqdm

from exaranker import logs
from exaranker.checks import NonEmpty, Positive, above, at_most, check, one_of
from exaranker.errors import InputError, require
from exaranker.preprocess.engines.base import Completion, EngineInfo, Sampling
from exaranker.preprocess.prompts.prompter import Prompt

# The smallest that vLLM's CPU attention takes: of a common beginning at most 31 tokens are read again with each prompt.
CPU_BLOCK_SIZE = 32
DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")  # of weights and products, by vLLM's names


@dataclass(frozen=True)
class VLLMConfig:
    """vLLM's own options, bound in gin as `vllm.NAME`; None leaves the choice to vLLM."""

    tensor_parallel_size: Positive = 1
    pipeline_parallel_size: Positive = 1
    dtype: Annotated[str, one_of(DTYPES)] = "auto"  # the model's own; fp32 on a CPU that cannot multiply bf16
    quantization: NonEmpty | None = None
    gpu_memory_utilization: Annotated[float, above(0), at_most(1)] = 0.9
    max_num_seqs: Positive | None = None
    enforce_eager: bool | None = None  # None: True on a CPU, where compiling costs minutes; False on a GPU
    enable_prefix_caching: bool = True
    # Tokens that are cached, or not, together; None: 32 on a CPU, whose default is 128.
    block_size: Positive | None = None
    batch_invariant: bool = False  # vLLM's batch-invariant kernels: newer GPUs only
    cpu_kv_cache_gb: Positive = 2

    def __post_init__(self) -> None:
        check(self, "vllm.")

    @property
    def ranks(self) -> int:
        """Devices that one copy of the LLM is spread over."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def text_settings(self) -> dict[str, Any]:
        """The options that are part of what was asked for.

        The others are meant to change the speed alone; like the device, they may still move a rounding error past a
        token, so each shard's record has those that can.
        """
        names = ("dtype", "quantization", "enable_prefix_caching", "batch_invariant")
        return {name: getattr(self, name) for name in names}

    @property
    def batching(self) -> list[str]:
        """Those options that decide which tokens are computed together, where they are set."""
        set_ones = {name: getattr(self, name) for name in ("max_num_seqs", "enforce_eager", "block_size")}
        return [f"{name} {value}" for name, value in set_ones.items() if value is not None]


class VLLMEngine:
    """Satisfies `Engine`."""

    def __init__(self, model: str, config: VLLMConfig, *, context_tokens: int, seed: int = 0):
        set_environment(config)
        self._vllm = require("vllm", "explain")
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        if on_cpu and config.batch_invariant:
            hint = "leave out vllm.batch_invariant: a shard is repeatable without it"
            raise InputError("vLLM has no batch-invariant kernels for CPUs", hint=hint)
        self._config, self._platform = config, current_platform
        options = engine_arguments(config, on_cpu)
        try:
            self._llm = self._vllm.LLM(model, max_model_len=context_tokens, seed=seed, **options)
        except (ValueError, OSError) as error:
            hint = "vllm.* and explainer.context_tokens can be set with --gin.NAME=VALUE"
            raise InputError(f"vLLM cannot load {model}: {_first_line(error)}", hint=hint) from error

    @property
    def info(self) -> EngineInfo:
        held = [
            "one call per shard",
            *(["prefix cache warmed alike"] if self._config.enable_prefix_caching else []),
            *(["batch-invariant kernels"] if self._config.batch_invariant else []),
        ]
        versions = (f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
        parts = [f"vllm {self._vllm.__version__}", *versions, self._devices(), *self._config.batching]
        return EngineInfo(", ".join(parts), ", ".join(held))

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: Prompt) -> list[list[Completion]]:
        """Satisfies `Engine.generate`."""
        self.forget()
        self.ask([prefix], Sampling(max_tokens=1))
        return self.ask(prompts, sampling, shard_bar if logs.shows_bars() else False)

    def forget(self) -> None:
        """Empties the prefix cache."""
        self._llm.reset_prefix_cache()

    def ask(
        self, prompts: Sequence[Prompt], sampling: Sampling, bar: Callable[..., Any] | bool = False
    ) -> list[list[Completion]]:
        """One bare call of the LLM, whatever its prefix cache holds: not repeatable."""
        inputs = [{"prompt_token_ids": list(prompt.token_ids)} for prompt in prompts]
        outputs = self._llm.generate(inputs, sampling_params(self._vllm, sampling), use_tqdm=bar)
        return [[completion(sample, sampling) for sample in output.outputs] for output in outputs]

    def close(self) -> None:
        """Lets go of the model's memory."""
        del self._llm

    def _devices(self) -> str:
        """What texts depend on besides the versions: `4 x NVIDIA A100-SXM4-80GB`, `cpu with 1 thread in float32`."""
        if not self._platform.is_cpu():
            name = self._platform.get_device_name()
        else:
            import torch

            threads, dtype = torch.get_num_threads(), str(self._llm.model_config.dtype).removeprefix("torch.")
            name = f"cpu with {threads} thread{'s' if threads > 1 else ''} in {dtype}"
        return name if self._config.ranks == 1 else f"{self._config.ranks} x {name}"


def shard_bar(*iterable: Any, **options: Any) -> Any:
    """vLLM's progress bar, as a second line below that of the run: prompts of this shard that are answered."""
    return tqdm(*iterable, **options | {"desc": "this shard", "unit": "pair", "position": 1, "leave": False})


def set_environment(config: VLLMConfig) -> None:
    """Sets those of vLLM's settings that only exist as environment variables.

    Those already set are left alone, save the one that the manifest vouches for.
    """
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in-process: starts in seconds, and errors arrive as exceptions
        "VLLM_CPU_KVCACHE_SPACE": str(config.cpu_kv_cache_gb),
        "VLLM_CPU_OMP_THREADS_BIND": cores_by_rank(sorted(os.sched_getaffinity(0)), config.ranks),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "INFO" if logs.is_verbose() else "ERROR",
        "TOKENIZERS_PARALLELISM": "true",
    }
    if _built_for_cpu():
        settings["VLLM_TARGET_DEVICE"] = "cpu"  # else an installed libtpu counts as a second device, which it refuses
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if config.batch_invariant:
        os.environ["VLLM_BATCH_INVARIANT"] = "1"


def cores_by_rank(cores: Sequence[int], ranks: int) -> str:
    """All cores, shared out among the ranks as vLLM wants it written ("auto" leaves one core idle).

    >>> cores_by_rank([0, 1, 2, 3], 2)
    '0,2|1,3'
    """
    if len(cores) < ranks:
        return "nobind"
    return "|".join(",".join(map(str, cores[rank::ranks])) for rank in range(ranks))


def engine_arguments(config: VLLMConfig, on_cpu: bool) -> dict[str, Any]:
    """The keyword arguments of `vllm.LLM` and of its other front ends."""
    given = {
        "tensor_parallel_size": config.tensor_parallel_size,
        "pipeline_parallel_size": config.pipeline_parallel_size,
        "dtype": "float32" if on_cpu and config.dtype == "auto" and not torch_multiplies_bf16() else config.dtype,
        "quantization": config.quantization,
        "max_num_seqs": config.max_num_seqs,
        "enforce_eager": on_cpu if config.enforce_eager is None else config.enforce_eager,
        "enable_prefix_caching": config.enable_prefix_caching,
        "block_size": CPU_BLOCK_SIZE if on_cpu and config.block_size is None else config.block_size,
    }
    if not on_cpu:
        given["gpu_memory_utilization"] = config.gpu_memory_utilization
    return {name: value for name, value in given.items() if value is not None}


def torch_multiplies_bf16() -> bool:
    """Whether this CPU has fast products of bf16: without AVX-512 torch's are some hundred times slower than fp32's."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def sampling_params(vllm: Any, sampling: Sampling) -> Any:
    """Ours -> vLLM's. `logprobs=0` asks for the drawn token's own log-probability only."""
    return vllm.SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        n=sampling.samples,
        seed=sampling.seed if sampling.temperature > 0 else None,
        stop=list(sampling.stop) or None,
        logprobs=None if sampling.label_tokens else 0,
        logprob_token_ids=list(sampling.label_tokens) or None,
        detokenize=not sampling.label_tokens,
    )


def completion(sample: Any, sampling: Sampling) -> Completion:
    """vLLM's `CompletionOutput` -> ours."""
    count = len(sample.token_ids)
    mean = (sample.cumulative_logprob or 0.0) / count if count else 0.0
    labels: tuple[float, ...] = ()
    if sampling.label_tokens:
        first = sample.logprobs[0]
        labels = tuple(first[token].logprob for token in sampling.label_tokens)
    return Completion(sample.text, sample.finish_reason, count, mean, labels)


def _built_for_cpu() -> bool:
    """The build for CPUs is a distribution of its own."""
    try:
        return bool(metadata.version("vllm-cpu"))
    except metadata.PackageNotFoundError:
        return False


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
