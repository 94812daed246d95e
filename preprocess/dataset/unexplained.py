"""Labelled pairs as they are: a dataset to train on labels only, in which no LLM had a part."""

from pathlib import Path
from typing import Any

from exaranker.preprocess.dataset.writer import Plan, ShardResult, open_dataset
from exaranker.preprocess.engines.base import EngineInfo
from exaranker.preprocess.engines.registry import NO_ENGINE
from exaranker.preprocess.pairs.selection import Selection, chunks
from exaranker.schema import ExplainedPair, Pair


def write_unexplained(
    selection: Selection[Pair], input_name: str, shard_size: int, output_dir: str | Path
) -> dict[str, Any]:
    """Fills `output_dir` with the selected pairs, their explanations empty, and returns its complete manifest.

    Raises:
        InputError: another process is writing there, or the folder was begun with other settings.
    """
    settings = {
        "input": {"name": input_name, "pairs": selection.num_pairs, "sha256": selection.digest},
        "positive_grade": selection.positive_grade,
        "shard_size": shard_size,
        "engine": {"name": NO_ENGINE},
    }
    plan = Plan(settings, {"input_counts": selection.counts}, selection.num_pairs, shard_size)
    engine = EngineInfo(NO_ENGINE, "no text was generated")
    with open_dataset(output_dir, plan) as dataset:
        for index, pairs in enumerate(chunks(selection.pairs(), shard_size)):
            if index not in dataset.done:
                rows = [_row(pair, selection.positive_grade) for pair in pairs]
                dataset.add(index, ShardResult(rows, [], 0), engine, 0.0)
        return dataset.manifest()


def _row(pair: Pair, positive_grade: int) -> ExplainedPair:
    return ExplainedPair(
        *pair,
        relevant=int(pair.label >= positive_grade),
        explanation="",
        explainer="",
        finish_reason="",
        num_tokens=0,
        mean_logprob=0.0,
    )
