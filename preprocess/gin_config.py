"""What gin files and `--gin.NAME=VALUE` configure of an explanation run, under the names that they have there."""

from dataclasses import dataclass, field

from exaranker.checks import check
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.ray import RayConfig
from exaranker.preprocess.engines.server_client import ServerConfig
from exaranker.preprocess.engines.vllm import VLLMConfig
from exaranker.preprocess.pairs.text import InputConfig

RUN_FILE = "runs/explain.gin"


@dataclass(frozen=True)
class ExplainConfig:
    """An explanation run: the LLM and its prompt, the pairs, and what each engine needs."""

    explainer: ExplainerConfig = field(default_factory=ExplainerConfig)
    pairs: InputConfig = field(default_factory=InputConfig)
    vllm: VLLMConfig = field(default_factory=VLLMConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        check(self, "explain.")


NAMES: dict[str, type] = {
    "explain": ExplainConfig,
    "explainer": ExplainerConfig,
    "pairs": InputConfig,
    "vllm": VLLMConfig,
    "server": ServerConfig,
    "ray": RayConfig,
}
