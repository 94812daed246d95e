"""What it takes to convert a family: its config.json in Hugging Face's words, and the names of its tensors."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from exaranker.errors import InputError
from exaranker.models import ModelConfig
from exaranker.tokenization import Tokenizer

Json = Mapping[str, Any]
REQUIRED = object()


class Name(NamedTuple):
    """A tensor by our name and by Hugging Face's."""

    ours: str
    theirs: str

    @property
    def transposed(self) -> bool:
        """Torch keeps it the other way round: a linear map as [out, in], T5's position table as [buckets, heads]."""
        return self.ours.endswith(("kernel", "rel_embedding"))


class Field(NamedTuple):
    """A field by our name and by Hugging Face's; where it is absent, `default`, or what that makes of config.json."""

    ours: str
    theirs: str
    default: Any = REQUIRED


def read_fields(fields: Iterable[Field], given: Json) -> dict[str, Any]:
    """Reads fields from config.json.

    Raises:
        InputError: one that has no default is absent.

    >>> read_fields([Field("emb_dim", "hidden_size"), Field("head_dim", "head_dim", 64)], {"hidden_size": 576})
    {'emb_dim': 576, 'head_dim': 64}
    """
    read: dict[str, Any] = {}
    for ours, theirs, default in fields:
        value = given.get(theirs)
        if value is None and default is REQUIRED:
            raise InputError(f"config.json has no {theirs}", hint="it is incomplete: fetch the model again")
        read[ours] = value if value is not None else default(given) if callable(default) else default
    return read


def write_fields(fields: Iterable[Field], config: object) -> dict[str, Any]:
    """The inverse of `read_fields`."""
    return {theirs: getattr(config, ours) for ours, theirs, _ in fields}


def check_options(options: Mapping[str, Any], given: Json) -> None:
    """Compares options of config.json with the one value that our models compute.

    Raises:
        InputError: an option has another.
    """
    for option, value in options.items():
        if given.get(option, value) != value:
            raise InputError(f"{option} {given[option]!r} is not supported", hint=f"only {value!r} is")


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Conversion:
    """One `model_type` of Hugging Face."""

    model_type: str
    architecture: str  # transformers' class
    config: type[ModelConfig]
    fields: tuple[Field, ...]
    names: Callable[[Any], Iterator[Name]]  # every tensor of a configuration
    implied: Mapping[str, Any] = field(default_factory=dict)  # fields of ours that this model_type says by itself
    options: Mapping[str, Any] = field(default_factory=dict)  # options of theirs, and the only value that we compute
    read_more: Callable[[Json], dict[str, Any]] = _nothing  # fields of ours that are not one of theirs
    write_more: Callable[[Any, Tokenizer], dict[str, Any]] = _nothing
    head: str = "lm_head.weight"  # the tensor that untied models have
    tied: bool = False  # what a config.json without tie_word_embeddings means
    embedding: str = "model.embed_tokens.weight"
    aliases: tuple[str, ...] = ()  # older names of the architecture
    copies: Mapping[str, str] = field(default_factory=dict)  # tensors that older files repeat -> what they are equal to
    modules: tuple[str, str] = ("", "")  # how tensors' names begin in files, and those of the modules in memory
    unused: re.Pattern[str] = re.compile(r"rotary_emb\.inv_freq$")  # what older files keep and transformers passes over
    of_images: re.Pattern[str] | None = None  # tensors that no text needs, which are left out
    fillers: Callable[[Any], Mapping[str, np.ndarray]] = _nothing  # what transformers loads in their place

    def read_config(self, given: Json, stored: Container[str]) -> ModelConfig:
        """Reads config.json; `stored` are the names of the tensors beside it.

        Raises:
            InputError: a field is missing, or an option is not one of ours.
        """
        check_options(self.options, given)
        tied = {"logits_via_embedding": self.head not in stored}
        return self.config(**{**tied, **read_fields(self.fields, given), **self.read_more(given), **self.implied})

    def write_config(self, config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
        """Writes a config.json that transformers reads as the same function."""
        names = {"architectures": [self.architecture], "model_type": self.model_type, "dtype": "float32"}
        tied = {"tie_word_embeddings": config.logits_via_embedding}
        fields = write_fields(self.fields, config)
        return {**names, **tied, **fields, **self.options, **self.write_more(config, tokenizer)}

    def module(self, tensor: str) -> str:
        """The module in memory that a weight of a file belongs to."""
        stored, loaded = self.modules
        return re.sub(f"^{re.escape(stored)}", loaded, tensor).removesuffix(".weight")

    def contradictions(self, config: ModelConfig) -> list[str]:
        """The fields of a configuration that this model_type says otherwise."""
        return [name for name, value in self.implied.items() if getattr(config, name) != value]
