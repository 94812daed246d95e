"""From parsed gin to the frozen configuration of an entry point."""

from typing import Any, TypeVar

from exaranker.errors import InputError, require

Config = TypeVar("Config")


def configured(kind: type[Config]) -> tuple[Config, str]:
    """Builds an entry point's configuration, and gives the gin text that would build it again.

    Raises:
        InputError: a macro that must be set is not, or a value is refused.
    """
    gin: Any = require("gin", "train")
    try:
        config: Any = gin.get_configurable(kind)()
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(_reason(error)) from error
    return config, gin.operative_config_str()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
