"""`exaranker serve` under load, beside scoring the same pairs offline in the same run.

    python benchmarks/serve.py [--checkpoint DIR --clients 50 --seconds 60 --json FILE]

A fifth of the clients misbehave: some send broken JSON, some send slowly, some go before they are answered. The others
ask for 1 to 100 passages at a time, as many passages in small requests as in large ones, and each score that they get
is held to the one scored offline: an answer that is lost, or another's, is counted, and ends in exit status 1. Without
a checkpoint a T5-small of random weights is served. Offline is measured before and after, on the same cores; CPU
seconds of the server's process stand beside wall time, since on a busy machine only those bear comparison.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from rerank import SHAPES, make_model

from exaranker.files import write_json
from exaranker.files.shipped import shipped
from exaranker.rank.reranker import Reranker
from exaranker.texts.rows import read_texts

SAME = {"float32": 1e-3, "bfloat16": 0.1}  # of log-odds: batches of other shapes round elsewhere
PATIENCE = 600  # seconds: on a slow machine the last requests of all clients wait for each other
SIZES = (1, 3, 10, 30, 100)  # passages of a request
SHARES = [1 / size for size in SIZES]  # of the requests: each size brings as many passages as any other


@dataclass
class Tally:
    """What clients saw."""

    seconds: dict[int, list[float]] = field(default_factory=lambda: {size: [] for size in SIZES})  # size -> latencies
    passages: int = 0
    wrong: int = 0  # scores that are not those of the pair
    lost: int = 0  # requests without an answer, or with another status than was due
    refused: int = 0  # 429
    misbehaved: int = 0


class Texts:
    """Queries, passages and the offline log-odds of each pair."""

    def __init__(self, queries: Sequence[str], passages: Sequence[str], same: float):
        self.queries, self.passages, self.same = queries, passages, same
        self.pairs = [(query, passage) for query in queries for passage in passages]
        self.scores = np.empty((len(queries), len(passages)), np.float32)

    def request(self, query: int, chosen: Sequence[int]) -> dict[str, Any]:
        """The body of a request for some passages' log-odds."""
        documents = [self.passages[index] for index in chosen]
        return {"query": self.queries[query], "texts": documents, "raw_scores": True}

    def score(self, reranker: Reranker) -> tuple[float, float]:
        """(wall, CPU) seconds of scoring all pairs."""
        began, cpu = time.perf_counter(), time.process_time()
        scores = list(reranker.score(self.pairs))
        self.scores = np.array(scores, np.float32).reshape(self.scores.shape)
        return time.perf_counter() - began, time.process_time() - cpu


async def polite(url: str, texts: Texts, tally: Tally, end: float, seed: int) -> None:
    """Asks as fast as it is answered, and checks each score."""
    draw = random.Random(seed)
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        while time.monotonic() < end:
            query, size = draw.randrange(len(texts.queries)), draw.choices(SIZES, SHARES)[0]
            chosen = draw.sample(range(len(texts.passages)), size)
            began = time.monotonic()
            answer = await client.post(f"{url}/rerank", json=texts.request(query, chosen))
            if answer.status_code == 429:
                tally.refused += 1
                await asyncio.sleep(float(answer.headers["retry-after"]))
                continue
            count(answer, texts, query, chosen, tally)
            tally.seconds[size].append(time.monotonic() - began)


def count(answer: httpx.Response, texts: Texts, query: int, chosen: Sequence[int], tally: Tally) -> None:
    """Holds an answer to the scores of its own pairs."""
    found = {item["index"]: item["score"] for item in answer.json()} if answer.status_code == 200 else {}
    tally.lost += len(found) != len(chosen)
    expected = texts.scores[query, list(chosen)]
    tally.wrong += sum(bool(abs(found[index] - expected[index]) > texts.same) for index in found)
    tally.passages += len(found)


async def malformed(url: str, tally: Tally, end: float) -> None:
    """Sends half of an object, and must be told so."""
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        while time.monotonic() < end:
            headers = {"Content-Type": "application/json"}
            answer = await client.post(f"{url}/rerank", content=b'{"query": "a", "texts": ["b"', headers=headers)
            tally.lost += answer.status_code != 422 and answer.status_code != 400
            tally.misbehaved += 1
            await asyncio.sleep(0.2)


async def slow(url: str, texts: Texts, tally: Tally, end: float) -> None:
    """Sends its body in ten pieces over five seconds, and must be answered all the same."""
    chosen = range(10)
    content = json.dumps(texts.request(0, chosen)).encode()

    async def pieces() -> Any:
        for start in range(0, len(content), len(content) // 9):
            yield content[start : start + len(content) // 9]
            await asyncio.sleep(0.5)

    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        while time.monotonic() < end:
            headers = {"Content-Type": "application/json"}
            answer = await client.post(f"{url}/rerank", content=pieces(), headers=headers)
            count(answer, texts, 0, chosen, tally)
            tally.misbehaved += 1


async def cut_off(url: str, texts: Texts, tally: Tally, end: float) -> None:
    """Asks for 100 passages and goes: half of the time within its body, else before the answer."""
    content = json.dumps(texts.request(0, range(100))).encode()
    head = (
        f"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    address = urlsplit(url)
    for length in cycle((len(content) // 2, len(content))):
        if time.monotonic() > end:
            return
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head.encode() + content[:length])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        tally.misbehaved += 1
        await asyncio.sleep(0.5)


async def load(url: str, texts: Texts, clients: int, seconds: float) -> Tally:
    tally = Tally()
    end = time.monotonic() + seconds
    bad = clients // 15
    work = [polite(url, texts, tally, end, seed) for seed in range(clients - 3 * bad)]
    for _ in range(bad):
        work += [malformed(url, tally, end), slow(url, texts, tally, end), cut_off(url, texts, tally, end)]
    await asyncio.gather(*work)
    return tally


@contextmanager
def server(checkpoint: Path, *words: str) -> Iterator[tuple[str, int]]:
    """(URL, process id)."""
    command = [sys.executable, "-m", "exaranker.cli", "serve", f"--checkpoint={checkpoint}", "--port=0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[3], process.pid
        finally:
            process.terminate()


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int, name: str) -> float:
    """MiB: VmRSS is now, VmHWM the most so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) / 1024


def measure(checkpoint: Path, texts: Texts, args: argparse.Namespace) -> dict[str, Any]:
    """Offline, then served, then offline again."""
    reranker = Reranker.from_checkpoint(checkpoint, dtype=args.dtype)
    texts.score(reranker)  # compiles
    before = texts.score(reranker)
    with server(checkpoint, f"--dtype={args.dtype}", f"--timeout={PATIENCE}") as (url, process):
        body = {"query": texts.queries[0], "texts": list(texts.passages)}
        httpx.post(f"{url}/rerank", json=body, timeout=PATIENCE).raise_for_status()  # compiles for many
        asyncio.run(load(url, texts, clients=3, seconds=args.seconds / 4))  # and for few
        began, cpu, at_first = time.perf_counter(), cpu_seconds(process), memory(process, "VmRSS")
        tally = asyncio.run(load(url, texts, args.clients, args.seconds))
        wall, cpu = time.perf_counter() - began, cpu_seconds(process) - cpu
        mebibytes = {"first": at_first, "last": memory(process, "VmRSS"), "most": memory(process, "VmHWM")}
    after = texts.score(reranker)
    offline = [len(texts.pairs) * 2 / (first + second) for first, second in zip(before, after, strict=True)]
    latencies = {
        size: [float(np.percentile(found, share)) for share in (50, 95)]
        for size, found in tally.seconds.items()
        if found
    }
    return {
        "offline passages/s": offline[0],
        "served passages/s": tally.passages / wall,
        "offline passages/CPU-s": offline[1],
        "served passages/CPU-s": tally.passages / cpu,
        "served over offline, by CPU-s": tally.passages / cpu / offline[1],
        "answers": sum(map(len, tally.seconds.values())),
        "lost": tally.lost,
        "wrong scores": tally.wrong,
        "refused": tally.refused,
        "misbehaved": tally.misbehaved,
        "p50 and p95, s, by passages of a request": latencies,
        "server's MiB": mebibytes,
    }


def main() -> None:
    sample = shipped("examples/sample")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="a checkpoint (default: random weights)")
    parser.add_argument("--shape", choices=SHAPES, default="t5-small", help="of random weights (default: %(default)s)")
    parser.add_argument("--dtype", choices=SAME, default="float32", help="of matrix products (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queries", type=int, default=8, help="each meets 100 passages (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    queries = list(islice(read_texts(sample / "queries.tsv").values(), args.queries))
    passages = list(islice(read_texts(sample / "passages.tsv").values(), 100))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint or make_model(args.shape, sample / "spiece.model", Path(folder))[0]
        figures = measure(checkpoint, Texts(queries, passages, SAME[args.dtype]), args)
    for name, value in figures.items():
        print(f"{name:42} {json.dumps(value)}")
    if args.json:
        write_json(args.json, figures)
    sys.exit(bool(figures["lost"] or figures["wrong scores"]))


if __name__ == "__main__":
    main()
