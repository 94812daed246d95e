"""Gin as T5X has it: the flags, what the files say, and the configurations that they build."""

from exaranker.gin_config.flags import add_cache_dirs, add_gin_arguments, add_t5x_arguments
from exaranker.gin_config.parse import Configured, build, configure, parse_gin

__all__ = [
    "Configured",
    "add_cache_dirs",
    "add_gin_arguments",
    "add_t5x_arguments",
    "build",
    "configure",
    "parse_gin",
]
