"""`infer(config)`: a SeqIO task through a checkpoint, as JSON lines.

The lines are T5X's ({"inputs": {...}, "prediction" or "score": ...}) with the row's ids and, in score mode, the
log-odds of the label at the first step beside them. What is finished is kept on disk every `checkpoint_period`
batches: a killed run continues where it was and ends with the same bytes.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import seqio
from tqdm import tqdm

from exaranker import __version__
from exaranker.checkpoints.store import PREFIX, TOKENIZER, find_checkpoint, load_card
from exaranker.files import atomic_path, sha256_json
from exaranker.infer.config import InferConfig
from exaranker.infer.data import Row, feature_lengths, open_tasks, read_rows, source_files
from exaranker.infer.model import InferenceModel
from exaranker.rank.reranker import Reranker
from exaranker.resume import Partial
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
    model_dir, step = find_checkpoint(config.checkpoint_path)
    tasks = open_tasks(config.dataset, load_card(config.checkpoint_path), model_dir / TOKENIZER)
    lengths = feature_lengths(tasks, config.dataset)
    config = replace(config, dataset=replace(config.dataset, task_feature_lengths=lengths))
    reranker = Reranker.from_checkpoint(config.checkpoint_path, max_length=lengths["inputs"], dtype=config.dtype)
    model = InferenceModel(reranker, config.dataset.batch_size, lengths)
    weights = model_dir / f"{PREFIX}_{step}"
    partials = [_infer_task(model, task, config, weights) for task in tasks]
    for partial in partials:
        partial.remove()
    return [Inferred(task, config, config.output(task.name)) for task in tasks]


def _infer_task(model: InferenceModel, task: seqio.Task, config: InferConfig, weights: Path) -> Partial:
    """Writes one task's file; its partial results are left until every task of the mixture is done."""
    output = config.output(task.name)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Partial(output.with_name(output.name + ".partial"), _key(task, config, weights))
    # How many rows a split has is not known before they are read.
    progress = tqdm(desc=task.name, initial=sum(map(len, partial.finished)), unit="row", smoothing=0)

    def compute(rows: Sequence[Row]) -> list[Line]:
        lines = [_line(row) | answer for row, answer in zip(rows, _answers(model, task, config, rows), strict=True)]
        progress.update(len(lines))
        return lines

    chunks = _chunks(
        read_rows(task, config.dataset, config.shard_id, config.num_shards),
        config.checkpoint_period * config.dataset.batch_size,
    )
    with progress, atomic_path(output) as aside, aside.open("w", encoding="utf-8") as stream:
        for lines in partial.map(compute, chunks):
            stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return partial


def _answers(model: InferenceModel, task: seqio.Task, config: InferConfig, rows: Sequence[Row]) -> list[Line]:
    inputs = [row["inputs"].tolist() for row in rows]
    tokenizer = model.reranker.tokenizer
    if config.mode == "predict":
        return [{"prediction": tokenizer.decode(ids)} for ids in model.predict(inputs)]
    labels = label_ids(tokenizer, template_of(task.name))
    scores = model.score(inputs, [row["targets"].tolist() for row in rows], labels)
    return [{"score": score.log_likelihood, "log_odds": score.log_odds} for score in scores]


def _line(row: Row) -> Line:
    """The row's ids and, under T5X's name, its texts."""
    texts = {name: value.decode() for name, value in row.items() if name.endswith(PRETOKENIZED)}
    return {**{name: row[name].decode() for name in IDS}, "inputs": texts}


def _key(task: seqio.Task, config: InferConfig, weights: Path) -> str:
    """A digest of everything that the output depends on; big files count by size and time."""
    files = [*sorted(weights.rglob("*")), *source_files(task, config.dataset.split)]
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files if path.is_file()]
    return sha256_json([__version__, task.name, asdict(config), stamps])


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, size)):
        yield chunk
