"""`infer(config)`: a SeqIO task through a checkpoint, as JSON lines.

The lines are T5X's ({"inputs": {...}, "prediction" or "score": ...}) with the row's ids and, in score mode, the
log-odds of the label at the first step beside them. What is finished is kept on disk every `checkpoint_period`
batches: a killed run continues where it was and ends with the same bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import seqio

from exaranker import __version__
from exaranker.checkpoints.convert.public import usable_base
from exaranker.checkpoints.folder import load_card
from exaranker.checkpoints.store import tokenizer_folder
from exaranker.files import claim_outputs, open_output, sha256_json
from exaranker.infer.config import InferConfig
from exaranker.infer.data import Row, feature_lengths, open_tasks, task_rows
from exaranker.infer.model import InferenceModel
from exaranker.rank.loaded_model import LoadedModel
from exaranker.resume import Partial, chunked
from exaranker.tasks import template_of
from exaranker.templates import label_ids

Line = dict[str, Any]  # one row of the output
IDS = ("query_id", "doc_id")
PRETOKENIZED = "_pretokenized"


class Inferred(NamedTuple):
    """A finished task and the file its lines are in."""

    task: seqio.Task
    config: InferConfig  # with the lengths that were used
    path: Path


def infer(config: InferConfig) -> list[Inferred]:
    """Writes `config.output(task)` for the task, or for each task of a mixture.

    Raises:
        InputError: there is no checkpoint, no such task, or they do not fit together.
    """
    config = _with_usable_base(config)
    tasks = _tasks_of(config)
    lengths = feature_lengths(tasks, config.dataset)
    config = replace(config, dataset=replace(config.dataset, task_feature_lengths=lengths))
    model = LoadedModel.from_checkpoint(config.checkpoint_path, config.dtype, config.base_checkpoint_path)
    inference = InferenceModel(model, config.dataset.batch_size, lengths)
    with claim_outputs(*(config.output(task.name) for task in tasks)):
        partials = [_infer_task(inference, task, config) for task in tasks]
        for partial in partials:
            partial.remove()
    return [Inferred(task, config, config.output(task.name)) for task in tasks]


def check_inference(config: InferConfig) -> None:
    """Makes the checks that need no accelerator, and reads the first row of each task; nothing is written.

    Raises:
        InputError: there is no checkpoint, no such task, split or dataset, or they do not fit together.
    """
    for task in _tasks_of(_with_usable_base(config)):
        next(task_rows(task, config.dataset, config.shard_id, config.num_shards), None)


def _with_usable_base(config: InferConfig) -> InferConfig:
    given = config.base_checkpoint_path
    return config if given is None else replace(config, base_checkpoint_path=str(usable_base(given)))


def _tasks_of(config: InferConfig) -> list[seqio.Task]:
    tokenizer = tokenizer_folder(config.checkpoint_path, config.base_checkpoint_path)
    return open_tasks(config.dataset, load_card(config.checkpoint_path), tokenizer)


def _infer_task(inference: InferenceModel, task: seqio.Task, config: InferConfig) -> Partial:
    """Writes one task's file; its partial results are left until every task of the mixture is done."""
    output = config.output(task.name)
    partial = Partial(output, _key(inference, task, config))
    lines = partial.map(
        lambda rows, _: _lines(inference, task, config, rows),
        chunked(
            task_rows(task, config.dataset, config.shard_id, config.num_shards),
            config.checkpoint_period * config.dataset.batch_size,
        ),
        identity=lambda row: [row["inputs"].tolist(), row["targets"].tolist(), _line(row)],
        desc=task.name,
        unit="row",  # how many a split has is not known before they are read
    )
    with open_output(output) as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return partial


def _lines(inference: InferenceModel, task: seqio.Task, config: InferConfig, rows: Sequence[Row]) -> list[Line]:
    answers = _answers(inference, task, config, rows)
    return [_line(row) | answer for row, answer in zip(rows, answers, strict=True)]


def _answers(inference: InferenceModel, task: seqio.Task, config: InferConfig, rows: Sequence[Row]) -> list[Line]:
    inputs = [row["inputs"].tolist() for row in rows]
    tokenizer = inference.model.tokenizer
    if config.mode == "predict":
        return [{"prediction": tokenizer.decode(ids)} for ids in inference.predict(inputs)]
    labels = label_ids(tokenizer, template_of(task.name))
    scores = inference.score(inputs, [row["targets"].tolist() for row in rows], labels)
    return [{"score": score.log_likelihood, "log_odds": score.log_odds} for score in scores]


def _line(row: Row) -> Line:
    """The row's ids and, under T5X's name, its texts."""
    texts = {name: value.decode() for name, value in row.items() if name.endswith(PRETOKENIZED)}
    return {**{name: row[name].decode() for name in IDS}, "inputs": texts}


def _key(inference: InferenceModel, task: seqio.Task, config: InferConfig) -> str:
    """A digest of everything that the answers depend on, beside the rows of their own chunk."""
    labels = label_ids(inference.model.tokenizer, template_of(task.name))
    settings = [config.mode, inference.batch_size, inference.lengths, labels]
    return sha256_json([__version__, settings, inference.model.fingerprint()])
