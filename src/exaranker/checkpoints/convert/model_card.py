"""The Hugging Face model card of an exported ranker: what it was trained on, how well it ranks, how to score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exaranker import __version__
from exaranker.checkpoints.card import ModelCard
from exaranker.errors import require
from exaranker.models import family_of

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
# What a card tells of its run, by macro; the rest is in the checkpoint.
TOLD = {
    "MIXTURE_OR_TASK_NAME": "task",
    "DATASET_NAME": "pairs",
    "DATASET": "sha256 of the explanations' manifest",
    "LLM": "explanations by",
    "PROMPT": "sha256 of the LLM's prompt",
    "TASK_FEATURE_LENGTHS": "lengths in tokens",
    "BATCH_SIZE": "batch size",
    "OPTIMIZER.LEARNING_RATE.BASE": "learning rate",
    "LOSS.EXPLANATION_WEIGHT": "weight of an explanation token",
    "RANDOM_SEED": "seed",
}


class Measured(NamedTuple):
    """A measure of one run over a set of judged queries, as `exaranker evaluate` found it."""

    collection: str
    run: str
    measure: str
    value: float
    is_own: bool  # of this model; other runs stand beside it for comparison


def model_card(
    card: ModelCard, step: int, length: int, ids: Sequence[int], names: Sequence[str], results: Sequence[Measured] = ()
) -> str:
    """The card's text: YAML for the hub, then what a reader wants to know.

    Raises:
        InputError: huggingface_hub is not installed.
    """
    hub: Any = require("huggingface_hub", "rank")
    decoder_only = family_of(card.config).is_decoder_only
    words = card.template.input.replace("{|}", "")
    data = hub.ModelCardData(
        library_name="peft" if card.adapter else "sentence-transformers",
        pipeline_tag="text-ranking",
        license="other",
        tags=_tags(card, decoder_only),
        model_name="ExaRanker" if results else None,
        eval_results=[_evaluation(hub, result) for result in results if result.is_own] or None,
    )
    text = hub.ModelCard.from_template(
        data,
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        family=family_of(card.config).name,
        decoder_only=decoder_only,
        adapter=card.adapter,
        template=card.template,
        words=words,
        literal=repr(words),
        ids=ids,
        names=names,
        length=length,
        step=step,
        training=training(card),
        results=results,
        version=__version__,
    )
    return f"{text}\n"


def training(card: ModelCard) -> dict[str, str]:
    """What the card knows of the run that made the model, by its name in the model card."""
    told = ((name, card.run.get(macro)) for macro, name in TOLD.items())
    return {name: " ".join(str(value).split()).replace("|", "/") for name, value in told if value is not None}


def _tags(card: ModelCard, decoder_only: bool) -> list[str]:
    if card.adapter:
        return ["lora", "reranker", "exaranker"]
    return ["cross-encoder", "reranker", "exaranker", *([] if decoder_only else ["custom_code"])]


def _evaluation(hub: Any, result: Measured) -> Any:
    return hub.EvalResult(
        task_type="text-ranking",
        dataset_type=result.collection,
        dataset_name=result.collection,
        metric_type=result.measure.lower().replace("@", "_at_"),
        metric_name=result.measure,
        metric_value=result.value,
    )
