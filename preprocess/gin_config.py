"""The objects that gin files and `--gin.NAME=VALUE` bind, under the names they have there."""

from typing import Any

from exaranker.errors import require
from exaranker.preprocess.configs import ExplainerConfig
from exaranker.preprocess.ray_engine import RayConfig
from exaranker.preprocess.readers import InputConfig
from exaranker.preprocess.server_client import ServerConfig
from exaranker.preprocess.vllm_engine import VLLMConfig

gin: Any = require("gin", "explain")

gin.clear_config()  # an earlier verb of this process has locked its own, and registering needs an unlocked one
explainer = gin.external_configurable(ExplainerConfig, "explainer")
pairs = gin.external_configurable(InputConfig, "pairs")
vllm = gin.external_configurable(VLLMConfig, "vllm")
server = gin.external_configurable(ServerConfig, "server")
ray = gin.external_configurable(RayConfig, "ray")
