"""`evaluate(config)`: a SeqIO task's own metrics over the predictions of a checkpoint, as T5X's eval computes them."""

import json
from collections.abc import Iterator
from typing import Any

from exaranker.checkpoints.folder import find_checkpoint
from exaranker.files import read_lines, write_json
from exaranker.infer.config import EvaluationConfig
from exaranker.infer.data import task_rows
from exaranker.infer.run import Inferred, infer

RESULTS = "task_metrics.json"  # results.json is what `exaranker evaluate` writes


def evaluate(config: EvaluationConfig) -> dict[str, Any]:
    """Predicts, measures, and writes `task_metrics.json` in the output directory, beside the predictions.

    >>> from exaranker.infer.config import DatasetConfig
    >>> rows = DatasetConfig("exaranker_sample_label", split="train", dataset_dir="out/explanations", num_examples=4)
    >>> evaluate(EvaluationConfig("out/model", "out/eval", rows))["tasks"]["exaranker_sample_label"]["rows"]
    4

    Raises:
        InputError: as `infer`, or a task has no metrics of predictions.
    """
    tasks = {done.task.name: _measured(done) for done in infer(config.predictions)}
    model_dir, step = find_checkpoint(config.checkpoint_path)
    results = {
        "checkpoint": str(model_dir),
        "step": step,
        "split": config.dataset.split,
        "mixture_or_task_name": config.dataset.mixture_or_task_name,
        "tasks": tasks,
    }
    write_json(config.directory / RESULTS, results)
    return results


def _measured(done: Inferred) -> dict[str, Any]:
    """{"rows": n, "metrics": {...}}: every metric function sees targets and predictions as the task reads them."""
    pairs = list(_answers(done))
    targets, predictions = [gold for gold, _ in pairs], [said for _, said in pairs]
    metrics: dict[str, Any] = {}
    for measure in done.task.predict_metric_fns:
        metrics |= measure(targets, predictions)
    return {"rows": len(pairs), "metrics": metrics}


def _answers(done: Inferred) -> Iterator[tuple[Any, Any]]:
    vocabulary = done.task.output_features["targets"].vocabulary
    lines = (json.loads(line) for _, line in read_lines(done.path))
    for row, line in zip(task_rows(done.task, done.config.dataset), lines, strict=True):
        gold = vocabulary.decode(row["targets"].tolist())
        yield (
            done.task.postprocess_fn(gold, example=row, is_target=True),
            done.task.postprocess_fn(line["prediction"], example=row, is_target=False),
        )
