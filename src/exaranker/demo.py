"""The whole pipeline on the embedded sample: every stage is the verb a user would type, printed before it runs.

A finished stage leaves a record of its command, the digests of what it read and what it wrote; a stage whose record
still holds is not run again.
"""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from exaranker import __version__, logs
from exaranker.checkpoints.convert.embedded import embedded_base
from exaranker.devices.processor import emulates_bf16
from exaranker.embedded import embedded_ranker_dir
from exaranker.errors import InputError
from exaranker.files import read_json, read_lines, sha256_file, write_json
from exaranker.files.shipped import shipped
from exaranker.rank.outputs import explanations_of
from exaranker.texts.rows import read_texts
from exaranker.trec import read_qrels

STYLES = ("label", "label_explanation")
BOXED = "in_the_box"
NAMES = {
    "bm25": "BM25",
    "label": "SmolLM2, labels, trained here",
    "label_explanation": "SmolLM2, labels + explanations, trained here",
    BOXED: "the ranker in the box",
}
MEASURES = ("nDCG@10", "RR@10", "AP")
DEPTH = 10  # passages of BM25 that are ranked again


@dataclass(frozen=True)
class Stage:
    """One verb: its name in the table, its words, the files it reads and those that are whole once it is done."""

    name: str
    words: Sequence[str]
    reads: Sequence[Path]
    writes: Sequence[Path]

    @property
    def command(self) -> str:
        return "exaranker " + shlex.join(self.words)


def stages(output: Path, sample: Path, base: Path, num_pairs: int, train_steps: int) -> list[Stage]:
    """The main job, in order: BM25, explanations, two rankers, their runs and the shipped one's, measures, report.

    `base` is the checkpoint of the model that is fine-tuned.
    """
    texts = ["--queries", str(sample / "queries.tsv"), "--passages", str(sample / "passages.tsv")]
    pairs, qrels, results = sample / "pairs.tsv", sample / "qrels.txt", output / "results.json"
    bm25, explanations = output / "bm25.trec", output / "explanations"
    retrieve = ["retrieve", *texts, "--output", str(bm25), "--k", str(DEPTH)]
    explain = ["explain", "--pairs", str(pairs), "--output_dir", str(explanations), "--limit", str(num_pairs)]
    plan = [
        Stage("bm25", retrieve, [sample / "queries.tsv", sample / "passages.tsv"], [bm25]),
        Stage("explain", explain, [pairs], [explanations]),
    ]
    for style in STYLES:
        plan.append(_train(style, output, base, explanations, train_steps))
        plan.append(_rerank(style, output, texts, output / style))
    plan.append(_rerank(BOXED, output, texts, None))
    runs = [output / f"{name}.trec" for name in NAMES]
    evaluate = ["evaluate", "--qrels", str(qrels), "--run", *map(str, runs), "--measures", *MEASURES]
    plan.append(Stage("evaluate", [*evaluate, "--output", str(results)], [qrels, *runs], [results]))
    return [*plan, _report(output, texts, results)]


def _train(style: str, output: Path, base: Path, explanations: Path, train_steps: int) -> Stage:
    gin_file = shipped("t5x_configs") / f"demo_{style}.gin"
    macros: dict[str, Path | str] = {
        "MODEL_DIR": output / style,
        "DATASET_DIR": explanations,
        "INITIAL_CHECKPOINT_PATH": base,
    }
    macros["VOCABULARY_PATH"] = base / "tokenizer"
    if emulates_bf16():
        macros["ACTIVATION_DTYPE"] = "float32"
    train = ["train", "--gin_file", str(gin_file), *(f"--gin.{name}={str(path)!r}" for name, path in macros.items())]
    train.append(f"--gin.TRAIN_STEPS={train_steps}")
    return Stage(f"train {style}", train, [gin_file, explanations / "manifest.json", base], [output / style])


def _rerank(name: str, output: Path, texts: Sequence[str], model: Path | None) -> Stage:
    """By a model, or by the ranker in the box."""
    run, bm25 = output / f"{name}.trec", output / "bm25.trec"
    rerank = ["rerank", *texts, "--run", str(bm25), "--output", str(run)]
    if model:
        rerank += ["--checkpoint", str(model), *(["--engine", "ctranslate2"] if emulates_bf16() else [])]
    written = [run]
    if name != "label":
        rerank += ["--explain_top_k", "1"]
        written.append(explanations_of(run))
    return Stage(f"rerank {name}", rerank, [bm25, model or embedded_ranker_dir()], written)


def _report(output: Path, texts: Sequence[str], results: Path) -> Stage:
    explained, page = explanations_of(output / f"{BOXED}.trec"), output / "report.html"
    metrics = [output / style / "metrics.jsonl" for style in STYLES]
    words = ["report", str(results), *texts, "--explanations", str(explained), "--title", "The demo of ExaRanker-Open"]
    words += ["--metrics", *map(str, metrics), "--checkpoint", *(str(output / style) for style in STYLES)]
    return Stage("report", [*words, "--output", str(page)], [results, explained, *metrics], [page])


def run_demo(output: Path, sample: Path | None, num_pairs: int, train_steps: int) -> None:
    """Runs what is not finished, then prints the table, three explained passages and where to look next."""
    sample = sample or shipped("examples/sample")
    for name in ("queries.tsv", "passages.tsv", "qrels.txt", "pairs.tsv"):
        if not (sample / name).is_file():
            raise InputError(f"has no {name}", path=sample, hint="the demo reads four files: see exaranker demo --help")
    _check_judged(sample)
    plan = stages(output, sample, embedded_base(), num_pairs, train_steps)
    began = time.monotonic()
    seconds = {stage.name: run_or_reuse(stage, output, f"[{i}/{len(plan)}]") for i, stage in enumerate(plan, 1)}
    logs.show(f"\nDone in {time.monotonic() - began:.0f} s.\n")
    logs.show(table(read_json(output / "results.json"), seconds))
    logs.show(explained(explanations_of(output / f"{BOXED}.trec"), sample))
    logs.show(_CLOSING.format(output=output, page=(output / "report.html").absolute().as_uri()))


def _check_judged(sample: Path) -> None:
    """Reads the judgements, which no stage needs before all else has been done."""
    path = sample / "qrels.txt"
    if read_texts(sample / "queries.tsv").keys().isdisjoint(qrel.query_id for qrel in read_qrels(path)):
        raise InputError("judges none of the queries", path=path, hint="its first column has the ids of queries.tsv")


def run_or_reuse(stage: Stage, output: Path, counter: str) -> float:
    """Runs a stage in a process of its own and returns its seconds, or those of the finished run it re-uses."""
    record_path = output / "stages" / f"{stage.name.replace(' ', '_')}.json"
    key = {"version": __version__, "command": stage.command, "reads": _digests(stage.reads)}
    record = read_json(record_path) if record_path.is_file() else {}
    if record.get("key") == key and record.get("wrote") == _digests(stage.writes):
        logs.show(f"{counter} {stage.name}: finished before, re-used ({record['seconds']:.0f} s then)")
        return record["seconds"]
    logs.show(f"{counter} {stage.name}\n$ {stage.command}")
    began = time.monotonic()
    # -P: modules of the current folder, which may be called as ours or a library's, are not the pipeline's.
    command = [sys.executable, "-P", "-m", "exaranker.cli", *stage.words, *logs.flags()]
    if subprocess.run(command).returncode:
        remedy = "the same command will continue there, with another --output_dir it begins anew"
        logs.fail("exaranker demo", f"the stage {stage.name!r} failed; {remedy}")
        sys.exit(1)
    seconds = time.monotonic() - began
    write_json(record_path, {"key": key, "wrote": _digests(stage.writes), "seconds": seconds})
    return seconds


def _digests(paths: Sequence[Path]) -> dict[str, str]:
    """sha256 of each file, and of every file below each folder."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {str(file): sha256_file(file) for file in files if file.is_file()}


def table(results: dict[str, Any], seconds: dict[str, float]) -> str:
    """Measures per run and seconds per stage, and in words whether the rerankers beat BM25."""
    names = list(NAMES.values())
    means = [run["means"] for run in results["runs"]]
    lines = ["| run | " + " | ".join(MEASURES) + " | queries |", "|---|" + "---|" * (len(MEASURES) + 1)]
    for name, mean in zip(names, means, strict=True):
        figures = " | ".join(f"{mean[measure]:.4f}" for measure in MEASURES)
        lines.append(f"| {name} | {figures} | {results['qrels']['queries']} |")
    lines += ["", "| stage | seconds |", "|---|---|"]
    lines += [f"| {name} | {spent:.0f} |" for name, spent in seconds.items()]
    lines += [f"| all | {sum(seconds.values()):.0f} |", ""]
    beaten = [name for name, mean in zip(names[1:], means[1:], strict=True) if mean["nDCG@10"] > means[0]["nDCG@10"]]
    lines.append(f"Above BM25 in nDCG@10: {'; '.join(beaten) or 'none'}. {_EXPECTATION}")
    return "\n".join(lines)


def explained(path: Path, sample: Path, count: int = 3) -> str:
    """The first queries' top passages with what the reranker says of them."""
    queries, passages = read_texts(sample / "queries.tsv"), read_texts(sample / "passages.tsv")
    rows = [json.loads(line) for _, line in islice(read_lines(path), count)]
    blocks = [
        f"query:       {queries[row['query_id']]}\n"
        f"top passage: {passages[row['doc_id']]}\n"
        f"reranker:    {row['label']} (log-odds {row['score']:.2f}). {row['explanation']}"
        for row in rows
    ]
    return "\nThree top passages, as the ranker in the box explains them:\n\n" + "\n\n".join(blocks)


_EXPECTATION = (
    "The two that were trained here saw a few hundred pairs for some minutes: they show that every stage works, "
    "not what the method can do."
)

_CLOSING = """
Where to look next:
  {output}/explanations   what the LLM wrote:  exaranker inspect {output}/explanations
  {output}/results.json   per-query measures and paired tests
  {output}/label*         checkpoints (adapters) and TensorBoard metrics

The report, with every explained passage: {page}
"""
