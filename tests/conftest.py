"""What all tests share: quick compiling, cores of their own for parallel workers, slow files first, explained pairs."""

import contextlib
import ctypes
import gc
import importlib.util
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import hypothesis
import jax
import pytest

from exaranker import logs
from exaranker.devices.compilation_cache import keep_compiled
from exaranker.files import sha256_file, write_json
from exaranker.schema import MANIFEST, SCHEMA_VERSION, ExplainedPair, to_example
from exaranker.texts.rows import read_texts

if TYPE_CHECKING:
    from selenium import webdriver

SAMPLE = Path(__file__).parents[1] / "examples/sample"
QUICK = "JAX_DISABLE_MOST_OPTIMIZATIONS"
BUDGET = os.environ.get("EXARANKER_TEST_MINUTES") or None  # set by .ci/run
BEGAN = time.monotonic()
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
ASIDE = re.compile(r"\.[0-9a-f]{8}\.aside")  # of exaranker.files, each time another name

# The same examples in every run, so that a gate is red for what changed; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("gate", derandomize=True)
hypothesis.settings.register_profile("explore", print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


def pytest_configure() -> None:
    """Here, and for the processes that tests start; OpenMP engines collapse when they share a core.

    Most tests compile more often than they compute: machine code need not be good.
    """
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    if not WORKER:  # what one worker compiles or converts, the other finds
        os.environ["EXARANKER_CACHE"] = tempfile.mkdtemp(prefix="exaranker-tests-")
    os.environ[QUICK] = "1"
    jax.config.update(QUICK.lower(), True)
    keep_compiled()
    if jax.__version_info__ < (0, 11):  # XLA ends a process that is given a flag that it no longer has
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false".strip()
    if WORKER:
        cores, count = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.sched_setaffinity(0, cores[int(WORKER.removeprefix("gw")) :: count] or cores)


def pytest_unconfigure() -> None:
    """What was compiled for the tests goes with them."""
    if not WORKER:
        shutil.rmtree(os.environ["EXARANKER_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come last, or first without a budget of time: then no worker waits for the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path in slow) is (BUDGET is not None))


@pytest.fixture(scope="module", autouse=True)
def small_worker() -> Iterator[None]:
    """What a file's tests compiled goes with them: a worker would grow to 6 GB, and engines beside it starve."""
    yield
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc's
        ctypes.CDLL(None).malloc_trim(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A gate that must end in time skips the slow tests that are left when its budget is spent, and says so."""
    if BUDGET is not None and item.get_closest_marker("slow") and time.monotonic() - BEGAN > 60 * float(BUDGET):
        pytest.skip(f"the budget of {BUDGET} minutes is spent on this machine: `make test` alone runs all tests")


@pytest.fixture
def left_by_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], object]], list[Path]]:
    """Works in the folder `whole`; returns copies of it as SIGKILL would have left it at each step on the disk."""
    whole = tmp_path / "whole"
    states: list[list[tuple[str, bytes]]] = []

    def note_state() -> None:
        files = [path for path in sorted(whole.rglob("*")) if path.is_file()]
        names = (ASIDE.sub(".aside", str(path.relative_to(whole))) for path in files)
        state = list(zip(names, [path.read_bytes() for path in files], strict=True))
        if state not in states:
            shutil.copytree(whole, tmp_path / f"killed{len(states)}")
            states.append(state)

    def before_each(call: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            with monkeypatch.context() as patch:  # copying touches the disk too
                for name, original in originals.items():
                    patch.setattr(os, name, original)
                note_state()
            return call(*args, **kwargs)

        return step

    def work_watched(work: Callable[[Path], object]) -> list[Path]:
        whole.mkdir()
        with monkeypatch.context() as patch:
            for name, original in originals.items():
                patch.setattr(os, name, before_each(original))
            work(whole)
        note_state()
        return [tmp_path / f"killed{number}" for number in range(len(states))]

    originals = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename", "unlink")}
    return work_watched


def sample_rows(count: int) -> list[ExplainedPair]:
    """The first pairs; the explanation tells whether the passage has a word of the query."""
    lines = (SAMPLE / "pairs.tsv").read_text().splitlines()[:count]
    split = [line.split("\t") for line in lines]
    return [_explained(f"q{i}", f"d{i}", query, passage, int(label)) for i, (label, query, passage) in enumerate(split)]


def judged_rows(count: int) -> list[ExplainedPair]:
    """Pairs of the test topics: the first of grade 3 and as many of grade 0."""
    queries, passages = (read_texts(SAMPLE / name) for name in ("queries.tsv", "passages.tsv"))
    judged = [line.split() for line in (SAMPLE / "qrels.txt").read_text().splitlines()]
    chosen = [row for grade in ("0", "3") for row in [row for row in judged if row[3] == grade][: count // 2]]
    return [_explained(query, doc, queries[query], passages[doc], int(grade)) for query, _, doc, grade in chosen]


def write_dataset(directory: Path, rows: list[ExplainedPair], num_shards: int) -> Path:
    """TFRecord shards and a complete manifest, as `exaranker explain` leaves them."""
    import tensorflow as tf

    directory.mkdir(parents=True, exist_ok=True)
    shards = []
    for index in range(num_shards):
        path = directory / f"explanations-{index:05}-of-{num_shards:05}.tfrecord"
        mine = rows[index::num_shards]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in mine:
                writer.write(to_example(row))
        digest = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        shards.append({"file": path.name, "rows": len(mine), **digest})
    manifest = {"schema_version": SCHEMA_VERSION, "complete": True, "num_shards": num_shards, "shards": shards}
    write_json(directory / MANIFEST, manifest)
    return directory


def _explained(query_id: str, doc_id: str, query: str, passage: str, label: int) -> ExplainedPair:
    shared = [word for word in query.split() if word in passage.lower()]
    why = f"The passage speaks of {' and '.join(shared[:4])}." if shared else "The passage speaks of other things."
    values: dict[str, object] = {"query_id": query_id, "doc_id": doc_id, "query": query, "passage": passage}
    values |= {"label": label, "relevant": int(label > 0), "explanation": why}
    values |= {"explainer": "test", "finish_reason": "stop"}
    rest = {name: kind() for name, kind in ExplainedPair.__annotations__.items() if name not in values}
    return ExplainedPair(**(values | rest))


@pytest.fixture(scope="session")
def rounding() -> ModuleType:
    """tests/rounding.py: what a tolerance is derived with."""
    return load(Path(__file__).with_name("rounding.py"))


def load(path: Path) -> ModuleType:
    """A file as a module, from outside of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def same_score(rounding: ModuleType) -> float:
    """How far one pair's log-odds by a tiny model of random weights may lie apart in batches of two shapes.

    The longest sum is attention's over up to 512 positions; the logits, of which log-odds are a difference, stay
    below 4. What is the difference of two scores may be off by twice that, a probability by a quarter: the sigmoid's
    slope.
    """
    return float(rounding.rounding(terms=512, largest=4.0))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """128 explained pairs in 4 shards."""
    return write_dataset(tmp_path_factory.mktemp("explanations"), sample_rows(128), 4)


@pytest.fixture(scope="session")
def dataset_of_512(tmp_path_factory) -> Path:
    """All 432 training pairs of the sample and 80 of its judged ones, under one query id: all are in one split."""
    rows = [row._replace(query_id="q1") for row in sample_rows(432) + judged_rows(80)]
    return write_dataset(tmp_path_factory.mktemp("explanations_512"), rows, 4)


@pytest.fixture(scope="module")
def optimized() -> Iterator[None]:
    """For tests that compute for long: good machine code, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(QUICK, "0")
        jax.config.update(QUICK.lower(), False)
        yield
    jax.config.update(QUICK.lower(), True)


@pytest.fixture(autouse=True)
def _messages_as_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that a test runs in this process must not decide how the next test's messages look."""
    monkeypatch.setattr(logs, "_style", logs.LogStyle())


@pytest.fixture(scope="module")
def browser() -> "Iterator[webdriver.Chrome]":
    """Chromium, as it takes the pictures of docs/."""
    try:
        driver = load(SAMPLE.parents[1] / "scripts/screenshots.py").chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield driver
    driver.quit()
