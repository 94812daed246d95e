"""The model card of a checkpoint: all that is needed to build the model, encode its inputs and read its answers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exaranker.errors import InputError
from exaranker.models import ModelConfig, config_from_json, config_to_json
from exaranker.models.lora import Lora
from exaranker.templates import Template


@dataclass(frozen=True)
class Adapter:
    """What a checkpoint of low-rank matrices belongs to, and how it is added to that."""

    lora: Lora
    base: str  # the checkpoint_N it was trained on, where that lay then
    base_digest: str  # of that checkpoint's weights, wherever it lies now

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Adapter":
        """Reads what `dataclasses.asdict` gave."""
        lora = dict(values["lora"])
        layers = lora.pop("layers")
        return cls(**{**values, "lora": Lora(**lora, layers=layers and tuple(layers))})


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says about itself."""

    config: ModelConfig
    template: Template
    tokenizer_digest: str
    label_ids: tuple[int, int] | None = None  # (irrelevant, relevant)
    gin: str = ""
    step: int = 0
    run: Mapping[str, Any] = field(default_factory=dict)  # what a training run was given, to tell changes on resuming
    max_length: int | None = None  # tokens of an input that it is meant to read, where the user does not say
    adapter: Adapter | None = None  # None: the checkpoint holds all weights

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "config": config_to_json(self.config),
            "template": self.template.to_json(),
            "label_ids": self.label_ids and list(self.label_ids),
            "adapter": self.adapter and dataclasses.asdict(self.adapter),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], path: Path | None = None) -> "ModelCard":
        """Reads what `to_json` gave.

        Raises:
            InputError: a field is missing or unknown, or the model or the template is none that there is.
        """
        try:
            label_ids = values["label_ids"]
            given = {
                **values,
                "config": config_from_json(values["config"]),
                "template": Template.from_json(values["template"]),
                "label_ids": (int(label_ids[0]), int(label_ids[1])) if label_ids else None,
                "adapter": Adapter.from_json(values["adapter"]) if values.get("adapter") else None,
            }
            return cls(**given)
        except InputError as error:
            raise InputError(f"the card is of no model of ours: {error}", path=path) from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            problem = f"not a model card: {type(error).__name__}: {error}"
            raise InputError(problem, path=path, hint="put back the original card") from error
