"""Four processes that talk over loopback train as one does, and end alike when one of them is killed on the way."""

import random
import shutil
import signal
import time

import numpy as np
import pytest

STEPS = 21
# fp32: what is left between one process and four is the order of sums.
BINDINGS = {"TRAIN_STEPS": STEPS, "DATA_STREAMS": 4, "LOG_PERIOD": 1, "CHECKPOINT_PERIOD": 3, "LEARNING_RATE": 0.001}
BINDINGS |= {"ACTIVATION_DTYPE": "float32", "EVAL_PERIOD": 6, "EVAL_STEPS": 40}
SHARED = {"MESH_FSDP": 2, "MESH_TENSOR": 2}  # each holds a quarter of the state; two share a batch's rows
FOUR = {**BINDINGS, **SHARED}
APART = {"MESH_FSDP": 4}  # each holds a quarter of the state and of a batch's rows: a stream of its own
# Adafactor, the default, divides each gradient by its own size, and where that is rounding alone by rounding: its
# losses have a tolerance, its weights have none. With an epsilon above the gradients AdamW does not magnify them.
SMOOTH = {**BINDINGS, "optimizers.AdamW.epsilon": 1.0, "WARMUP_STEPS": 0}
ADAMW = ("--gin_file", "optimizers/adamw.gin")
# Is 60 s late with its first step: later than the 30 s for which Gloo waits, once the others have compiled theirs.
COMPILES_SLOWLY = """
import time
import jax
from exaranker.cli import main

compile_at_once = jax.stages.Lowered.compile


def compile_slowly(self, *arguments, **options):
    jax.stages.Lowered.compile = compile_at_once
    time.sleep(60)
    return compile_at_once(self, *arguments, **options)


jax.stages.Lowered.compile = compile_slowly
main()
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(runs):
    finished = [run.finish() for run in runs.start_job("four", 4, **FOUR)]
    return finished[0]


@pytest.fixture(scope="module")
def smooth(runs):
    return runs.start("smooth", *ADAMW, **SMOOTH).finish()


def test_four_processes_have_the_losses_of_one_with_the_same_streams(rounding, runs, undisturbed):
    assert_same_curve(rounding, undisturbed, runs.start("one", **BINDINGS).finish())


@pytest.mark.parametrize("mesh", [SHARED, APART], ids=["two_share_rows", "each_reads_a_stream_of_its_own"])
def test_four_processes_train_as_one_with_the_same_streams(rounding, runs, smooth, mesh):
    [several, *_] = [run.finish() for run in runs.start_job("_".join(mesh), 4, *ADAMW, **SMOOTH, **mesh)]
    assert_same_curve(rounding, several, smooth)
    # No entry of a gradient is above its norm; each is the sum over 4,096 pieces at most.
    norm = max(row["gradient_norm"] for row in smooth.curve() if row["split"] == "train")
    gradient = rounding.rounding(4096, norm)
    # A gradient's rounding moves an update, rate * mean / (root of the mean square + 1), by at most twice its size.
    weight = STEPS * BINDINGS["LEARNING_RATE"] * 2 * gradient
    atols = {"params": weight, "mu": gradient, "nu": gradient * (1 - 0.999**STEPS) ** 0.5}
    rtol = rounding.rounding(STEPS, 1.0)  # of a weight, by the additions of updates
    expected = smooth.state(STEPS)
    for name, array in several.state(STEPS).items():
        [part] = {"params", "mu", "nu", "count"} & set(name.split("/"))
        both = array, expected[name]
        if part == "nu":  # of mean squares the roots: they move no further than the gradients
            both = np.sqrt(both)
        np.testing.assert_allclose(*both, rtol=rtol, atol=atols.get(part, 0), err_msg=name)


def assert_same_curve(rounding, several, one):
    atol = rounding.rounding(4096, 1.0)  # a loss is the log of a sum over all pieces
    ours, theirs = several.curve(), one.curve()
    assert [(row["step"], row["split"]) for row in ours] == [(row["step"], row["split"]) for row in theirs]
    for name in ("loss", "label_loss", "explanation_loss", "label_accuracy"):
        np.testing.assert_allclose(*([row[name] for row in rows] for rows in (ours, theirs)), rtol=0, atol=atol)
    assert [row.get("padding") for row in ours] == [row.get("padding") for row in theirs]


def test_padded_batches_are_cut_to_what_the_longest_row_of_all_processes_needs(rounding, runs):
    padded = {**BINDINGS, "TRAIN_STEPS": 4, "EVAL_PERIOD": 0, "PACK": False, "DATA_STREAMS": 2}
    two = [run.finish() for run in runs.start_job("padded", 2, **padded)]
    one = runs.start("cut", **padded).finish()
    ours, theirs = two[0].curve(), one.curve()
    tolerance = rounding.rounding(4096, 1.0)  # as above, and of a norm its share
    assert len({row["padding"] for row in ours}) > 1
    assert [row["padding"] for row in ours] == [row["padding"] for row in theirs]
    for name in ("loss", "label_loss", "explanation_loss", "gradient_norm"):
        rows = ([row[name] for row in rows] for rows in (ours, theirs))
        np.testing.assert_allclose(*rows, rtol=tolerance, atol=tolerance, err_msg=name)


def test_streams_that_do_not_divide_among_the_processes_are_refused(runs):
    refused = runs.start_job("refused", 2, **{**BINDINGS, "DATA_STREAMS": 1})
    assert [run.end() for run in refused] == [2, 2]
    problem = "DATA_STREAMS 1 do not divide among the 2 processes: a stream fills 8 rows of a batch, this process holds"
    assert all(problem in run.said for run in refused)


def test_a_process_that_compiles_longer_is_waited_for(runs):
    short = {**FOUR, "TRAIN_STEPS": 2, "EVAL_PERIOD": 0}  # on a mesh whose axes are parts of all processes
    job = runs.start_job("slow", 4, last=("-c", COMPILES_SLOWLY), **short)
    finished = [run.finish() for run in job]
    assert [row["step"] for row in finished[0].curve()] == [1, 2]


def test_when_one_is_killed_the_others_end_and_the_restarted_job_ends_with_the_same_weights(runs, undisturbed):
    seed = time.time_ns()
    print(f"seed {seed}")
    moments = random.Random(seed)
    job = runs.start_job("killed", 4, **FOUR)
    job[0].wait_for(f"step {moments.randrange(4, STEPS - 1)}/{STEPS}")
    time.sleep(moments.uniform(0.0, 0.5))
    victim = job.pop(moments.randrange(4))
    victim.send(signal.SIGKILL)
    assert victim.end() == -signal.SIGKILL
    assert all(run.end() != 0 for run in job)
    restarted = [run.finish() for run in runs.start_job("killed", 4, **FOUR)]
    assert "resuming from step" in restarted[0].said
    restarted[0].assert_ended_as(undisturbed, STEPS)


def test_a_checkpoint_that_one_process_cannot_read_is_damaged_for_all(runs, undisturbed):
    """Each process reads its own quarter."""
    directory = runs.root / "damaged"
    shutil.copytree(undisturbed.directory, directory)
    for part in (directory / f"checkpoint_{STEPS}/params/ocdbt.process_2/d").iterdir():
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    continued = [run.finish() for run in runs.start_job("damaged", 4, **FOUR)]
    assert f"checkpoint_{STEPS} is damaged" in continued[0].said
    assert "another process could not read it" in "".join(run.said for run in continued)
    assert f"resuming from step {STEPS - 3} in" in continued[0].said
    continued[0].assert_ended_as(undisturbed, STEPS)


def test_sigterm_to_one_stops_all_at_the_same_step_and_the_job_goes_on(runs, undisturbed):
    job = runs.start_job("stopped", 4, **FOUR)
    job[0].wait_for(f"step 4/{STEPS}")
    job[2].send(signal.SIGTERM)
    stopped = [run.finish() for run in job]
    assert "asked to stop: saved step" in stopped[0].said
    assert all("asked to stop" not in run.said for run in stopped[1:])
    continued = [run.finish() for run in runs.start_job("stopped", 4, **FOUR)]
    continued[0].assert_ended_as(undisturbed, STEPS)
