"""What an exported ranker says of itself beside its weights: words, labels, tokenizer, generation, model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exaranker.checkpoints.card import ModelCard
from exaranker.checkpoints.convert.cross_encoder import write_cross_encoder
from exaranker.checkpoints.convert.model_card import Measured, model_card
from exaranker.checkpoints.convert.tokenizer_files import token_names, write_tokenizer
from exaranker.errors import InputError
from exaranker.files import read_json, require_fields, write_json, write_text
from exaranker.models import family_of
from exaranker.templates import Template, label_ids
from exaranker.tokenization import Tokenizer

RANKER = "exaranker.json"
GENERATION = "generation_config.json"
DEFAULT_LENGTH = 512  # what T5 was trained with, and the reranker's own default
EXPLANATION_TOKENS = 64  # the papers' explanations have 17-29 words
IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


class KeptRanker(NamedTuple):
    """What an export says of its ranker that its weights and its tokenizer do not."""

    template: Template
    max_length: int  # tokens of an input


def write_ranker(
    directory: Path, card: ModelCard, step: int, tokenizer: Tokenizer, results: Sequence[Measured] = ()
) -> None:
    """Fills a Hugging Face directory that has config.json and weights with all that it takes to rank as we do."""
    length = input_length(card)
    ids = label_ids(tokenizer, card.template)
    write_tokenizer(directory, tokenizer, card, length)
    config = read_json(directory / "config.json")
    if not family_of(card.config).is_decoder_only:
        config["n_positions"] = length  # T5 has no such limit, but its users' tools cut inputs there
    _write_kept(directory, card, ids, length)
    write_json(directory / GENERATION, generation_config(config))
    names = token_names(directory, tokenizer, ids)
    write_json(directory / "config.json", config | write_cross_encoder(directory, card, ids, names))
    write_text(directory / "README.md", model_card(card, step, length, ids, names, results))


def write_adapter_card(
    directory: Path, card: ModelCard, step: int, tokenizer: Tokenizer, results: Sequence[Measured] = ()
) -> None:
    """Says in PEFT's directory of an adapter what it takes to rank with it; the tokenizer is the base's."""
    length = input_length(card)
    ids = label_ids(tokenizer, card.template)
    _write_kept(directory, card, ids, length)
    names = [tokenizer.decode([label]).strip() for label in ids]
    write_text(directory / "README.md", model_card(card, step, length, ids, names, results))


def _write_kept(directory: Path, card: ModelCard, ids: tuple[int, int], length: int) -> None:
    labels = {"irrelevant": ids[0], "relevant": ids[1]}
    write_json(directory / RANKER, {"template": card.template.to_json(), "label_ids": labels, "max_length": length})


def kept_ranker(directory: Path, tokenizer: Tokenizer) -> KeptRanker | None:
    """What an export of ours keeps of its ranker; None in other directories.

    Raises:
        InputError: the file is damaged, or its label ids are not those of the tokenizer.
    """
    path = directory / RANKER
    if not path.is_file():
        return None
    fields = {"template": dict, "label_ids": dict, "max_length": int}
    ranker = require_fields(read_json(path), fields, path=path)
    template = Template.from_json(ranker["template"])
    found, kept = label_ids(tokenizer, template), ranker["label_ids"]
    if (kept.get("irrelevant"), kept.get("relevant")) != found:
        problem = f"label ids {kept}, template and tokenizer give {list(found)}"
        raise InputError(problem, path=path, hint="give the model's own --tokenizer, or another --template")
    if ranker["max_length"] < 1:
        raise InputError(f"max_length is {ranker['max_length']}, expected at least 1", path=path)
    return KeptRanker(template, ranker["max_length"])


def input_length(card: ModelCard) -> int:
    """The tokens of an input that the model is meant to read, or else was trained with."""
    lengths = card.run.get("TASK_FEATURE_LENGTHS") or {}
    return card.max_length or int(lengths.get("inputs", DEFAULT_LENGTH))


def generation_config(config: dict[str, Any]) -> dict[str, Any]:
    """Greedy, as our explanations are decoded."""
    ids = {name: config[name] for name in IDS if config.get(name) is not None}
    return ids | {"do_sample": False, "max_new_tokens": EXPLANATION_TOKENS}
