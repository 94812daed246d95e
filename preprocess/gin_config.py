"""The objects that gin files and `--gin.NAME=VALUE` bind, under the names they have there."""

from typing import Any

from exaranker.errors import require
from exaranker.preprocess.configs import ExplainerConfig
from exaranker.preprocess.readers import InputConfig
from exaranker.preprocess.vllm_engine import VLLMConfig

gin: Any = require("gin", "explain")

explainer = gin.external_configurable(ExplainerConfig, "explainer")
pairs = gin.external_configurable(InputConfig, "pairs")
vllm = gin.external_configurable(VLLMConfig, "vllm")
