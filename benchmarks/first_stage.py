"""Building a BM25 index of synthetic passages, and searching it where it lies: time, memory, size on disk.

    python benchmarks/first_stage.py [--passages 1000000] [--json FILE]

Words are drawn by Zipf's law, 55 a passage as in MS MARCO; each query has 6. Both calls are `exaranker retrieve` in a
process of its own, as a user runs it: the second one has --index alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from exaranker.files import write_json

WORDS = 55  # of a passage of MS MARCO, on average
QUERY_WORDS = 6
VOCABULARY = 500_000
ZIPF = 1.2
QUERIES = 100
CHUNK = 10_000  # passages drawn at once
LETTERS = "bcdfghjklmnpqrtv"  # without vowels and s there is nothing to stem


class Call(NamedTuple):
    """What a call took: seconds, CPU seconds, peak memory in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made)
        write_texts(folder / "passages.tsv", args.passages, WORDS)
        write_texts(folder / "queries.tsv", QUERIES, QUERY_WORDS)
        words = ["retrieve", f"--queries={folder / 'queries.tsv'}", f"--index={folder / 'index'}", "--k=1000"]
        built = call([*words, f"--passages={folder / 'passages.tsv'}", f"--output={folder / 'a.trec'}"])
        searched = call([*words, f"--output={folder / 'b.trec'}"])
        assert (folder / "a.trec").read_bytes() == (folder / "b.trec").read_bytes()
        size = sum(path.stat().st_size for path in (folder / "index").iterdir()) / 2**20
    for name, figures in (("build", built), ("search", searched)):
        print(f"{name:7} {figures.seconds:8.1f} s {figures.cpu_seconds:8.1f} CPU-s {figures.peak_mb:8.0f} MB peak")
    print(f"index   {size:8.0f} MB on disk, {args.passages:,} passages, {QUERIES} queries")
    if args.json:
        write_json(args.json, report(args.passages, built, searched, size))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="of the temporary files")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def write_texts(path: Path, count: int, words: int) -> None:
    """Texts of words drawn by Zipf's law, one a line behind its number; the same in every run."""
    drawn = np.random.default_rng(0)
    vocabulary = np.array([spelt(rank) for rank in range(VOCABULARY)])
    with path.open("w") as stream:
        for start in range(0, count, CHUNK):
            rows = vocabulary[drawn.zipf(ZIPF, (min(CHUNK, count - start), words)) % VOCABULARY]
            stream.writelines(f"{start + number}\t{' '.join(row)}\n" for number, row in enumerate(rows))


def spelt(rank: int) -> str:
    """A word for a rank, the shorter the more frequent."""
    return LETTERS[rank % 16] + (spelt(rank // 16) if rank >= 16 else "x")


def call(words: list[str]) -> Call:
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "exaranker.cli", *words, "--quiet"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"exaranker {' '.join(words)} failed"
    return Call(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def report(passages: int, built: Call, searched: Call, size: float) -> dict[str, Any]:
    return {"passages": passages, "build": built._asdict(), "search": searched._asdict(), "index_mb": size}


if __name__ == "__main__":
    main()
