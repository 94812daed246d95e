"""Runs that are killed, asked to stop or left with a damaged checkpoint end as if nothing had happened."""

import random
import re
import shutil
import signal
import time

import pytest

STEPS = 24
# Neither checkpoints nor validation fall on every line of metrics.
PERIODS = {"TRAIN_STEPS": STEPS, "LOG_PERIOD": 3, "CHECKPOINT_PERIOD": 4, "EVAL_PERIOD": 10, "EVAL_STEPS": 2}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(runs):
    return runs.start("undisturbed", **PERIODS).finish()


def test_kill_9_at_random_moments_changes_nothing(runs, undisturbed):
    seed = time.time_ns()
    print(f"seed {seed}")
    moments = random.Random(seed)
    for line in sorted(moments.sample(range(3, STEPS, 3), 3)):
        run = runs.start("killed", **PERIODS)
        run.wait_for(f"step {line}/{STEPS}")
        time.sleep(moments.uniform(0.0, 0.4))
        run.send(signal.SIGKILL)
        assert run.end() == -signal.SIGKILL
    last = runs.start("killed", **PERIODS).finish()
    assert "resuming from step" in last.said
    last.assert_ended_as(undisturbed, STEPS)


def test_sigterm_saves_leaves_with_0_and_the_next_run_goes_on(runs, undisturbed):
    stopped = runs.start("stopped", **PERIODS)
    stopped.wait_for(f"step 6/{STEPS}")
    stopped.send(signal.SIGTERM)
    assert stopped.end() == 0
    step = int(re.search(r"asked to stop: saved step (\d+); run the same command to continue", stopped.said)[1])
    assert 6 <= step < STEPS
    continued = runs.start("stopped", **PERIODS).finish()
    assert f"resuming from step {step} in" in continued.said
    continued.assert_ended_as(undisturbed, STEPS)


def test_a_damaged_newest_checkpoint_is_reported_and_the_run_goes_on_from_the_one_before(runs, undisturbed):
    shutil.copytree(undisturbed.directory, runs.root / "damaged")
    for part in (runs.root / f"damaged/checkpoint_{STEPS}/params/d").iterdir():
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    continued = runs.start("damaged", **PERIODS).finish()
    assert f"checkpoint_{STEPS} is damaged" in continued.said
    assert f"resuming from step {STEPS - 4} in" in continued.said
    continued.assert_ended_as(undisturbed, STEPS)
