"""The objects that gin files and `--gin.NAME=VALUE` bind, under the names they have there."""

from typing import Any

from exaranker.errors import require
from exaranker.preprocess.config import ExplainerConfig
from exaranker.preprocess.engines.ray import RayConfig
from exaranker.preprocess.engines.server_client import ServerConfig
from exaranker.preprocess.engines.vllm import VLLMConfig
from exaranker.preprocess.pairs.text import InputConfig

gin: Any = require("gin", "explain")

gin.clear_config()  # an earlier verb of this process has locked its own, and registering needs an unlocked one
explainer = gin.external_configurable(ExplainerConfig, "explainer")
pairs = gin.external_configurable(InputConfig, "pairs")
vllm = gin.external_configurable(VLLMConfig, "vllm")
server = gin.external_configurable(ServerConfig, "server")
ray = gin.external_configurable(RayConfig, "ray")
