"""The model card of a checkpoint: all that is needed to build the model, encode its inputs and read its answers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exaranker.models import ModelConfig, config_from_json, config_to_json
from exaranker.templates import Template


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says about itself."""

    config: ModelConfig
    template: Template
    tokenizer_digest: str
    label_ids: tuple[int, int] | None = None  # (irrelevant, relevant)
    gin: str = ""
    step: int = 0

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "config": config_to_json(self.config),
            "template": dataclasses.asdict(self.template),
            "label_ids": self.label_ids and list(self.label_ids),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ModelCard":
        label_ids = values["label_ids"]
        return cls(
            **{
                **values,
                "config": config_from_json(values["config"]),
                "template": Template(**values["template"]),
                "label_ids": (label_ids[0], label_ids[1]) if label_ids else None,
            }
        )
