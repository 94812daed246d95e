"""Ray Data with two real workers, whose engine is a function of the prompt."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray

from exaranker.errors import InputError
from exaranker.files import read_json
from exaranker.preprocess.engines.ray import RayConfig, run_on_ray
from exaranker.preprocess.engines.runners import EngineSpec
from exaranker.preprocess.explain import explain

pytestmark = pytest.mark.slow  # starting Ray and its workers


@pytest.fixture(scope="module", autouse=True)
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def engine_factory(trace, before=lambda trace: None):
    """Starts engines that answer by a digest and leave a line with their process id in the file `trace`.

    Everything is local, so that it is sent to the workers by value: they cannot import tests.
    """

    def start():
        import hashlib
        import os

        from exaranker.preprocess.engines.base import Completion, EngineInfo

        class Engine:
            info = EngineInfo("digest 1", "always")

            def generate(self, prompts, sampling, prefix):
                before(trace)
                with open(trace, "a") as stream:
                    stream.write(f"{os.getpid()}\n")
                digests = [hashlib.sha256(repr(prompt.token_ids).encode()).hexdigest()[:9] for prompt in prompts]
                return [[Completion(f"it speaks of {digest}.", "stop", 9, -0.5)] for digest in digests]

            def close(self):
                pass

        return Engine()

    return start


def on_ray(job, start, **fields):
    config = RayConfig(**fields)
    spec = EngineSpec({"name": "digest"}, start, lambda *given: run_on_ray(*given, config))
    return job._replace(engine=spec)


def here(job, start):
    return job._replace(engine=EngineSpec({"name": "digest"}, start))


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in ("run.json", ".writer")}


def pids(trace):
    return trace.read_text().split()


def test_two_workers_write_what_one_process_does(tmp_path, make_job, pairs):
    def meet(trace):
        import glob
        import os
        import time

        with open(f"{trace}.{os.getpid()}", "w"):
            pass
        deadline = time.monotonic() + 120
        while len(glob.glob(f"{trace}.*")) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)

    trace = tmp_path / "trace"
    job = make_job(pairs, shard_size=2)
    explain(here(job, engine_factory(tmp_path / "alone")), tmp_path / "here")
    explain(on_ray(job, engine_factory(trace, meet)), tmp_path / "ray")
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")
    assert len(pids(trace)) == 5
    assert len(set(pids(trace))) == 2
    assert str(os.getpid()) not in pids(trace)


def test_the_seconds_of_shards_add_up_to_the_runs(tmp_path, make_job, pairs):
    """Two workers take 8 s for four shards, in half of that."""

    def take_two_seconds(trace):
        import os
        import time

        with open(f"{trace}.{os.getpid()}.{time.monotonic()}", "w"):
            time.sleep(2)

    trace, out = tmp_path / "trace", tmp_path / "out"
    explain(on_ray(make_job(pairs[:8], shard_size=2), engine_factory(trace, take_two_seconds)), out)
    took = time.monotonic() - min(float(path.name.split(".", 2)[2]) for path in tmp_path.glob("trace.*"))
    seconds = read_json(out / "run.json")["seconds"].values()
    assert len(seconds) == 4
    assert 0.6 * took < sum(seconds) < 1.2 * took


def test_a_killed_worker_costs_its_shard_only(tmp_path, make_job, pairs):
    def wait_to_be_killed_once(trace):
        import os
        import time

        try:
            with open(f"{trace}.victim", "x") as stream:
                stream.write(str(os.getpid()))
        except FileExistsError:
            return
        time.sleep(60)

    trace, victim = tmp_path / "trace", tmp_path / "trace.victim"
    job = make_job(pairs, shard_size=2)
    killed = on_ray(job, engine_factory(trace, wait_to_be_killed_once))
    run = threading.Thread(target=explain, args=(killed, tmp_path / "ray"))
    run.start()
    while not (victim.exists() and victim.read_text()):
        assert run.is_alive()
        time.sleep(0.05)
    os.kill(int(victim.read_text()), signal.SIGKILL)
    run.join(120)
    explain(here(job, engine_factory(tmp_path / "other")), tmp_path / "here")
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")
    assert len(pids(trace)) == 5
    assert victim.read_text() not in pids(trace)


def test_a_killed_driver_costs_each_worker_its_shard_only(tmp_path, llm_dir):
    """The cluster outlives the process that writes; rerun, it gives the bytes of a run that nobody killed."""
    driver = str(Path(__file__).with_name("ray_driver.py"))

    def start(name, **address):
        command = [sys.executable, driver, str(tmp_path / name), str(llm_dir), str(tmp_path / f"{name}.trace")]
        return subprocess.Popen(command, env={**os.environ, **address}, stderr=subprocess.PIPE, text=True)

    def finish(name, **address):
        with start(name, **address) as process:
            assert process.wait(120) == 0, process.stderr.read()[-2000:]

    cluster = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    trace, manifest = tmp_path / "killed.trace", tmp_path / "killed/manifest.json"
    with start("killed", **cluster) as process:
        while not (manifest.exists() and read_json(manifest)["shards"]):
            assert process.poll() is None, process.stderr.read()[-2000:]
            time.sleep(0.05)
        time.sleep(random.SystemRandom().uniform(0, 0.9))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finish("killed", **cluster)
    finish("undisturbed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert len((tmp_path / "undisturbed.trace").read_text().splitlines()) == 3
    assert 3 <= len(trace.read_text().splitlines()) <= 3 + 2


def test_a_finished_shard_is_recorded_before_the_next_is_finished(tmp_path, make_job, pairs):
    """So that a kill costs each worker no more than the shard it is at."""
    out = tmp_path / "ray"

    def wait_for_the_record_of_the_shard_before(trace):
        import time

        done = len(trace.read_text().splitlines()) if trace.exists() else 0
        deadline = time.monotonic() + 60
        while len(list(out.glob("explanations-*.tfrecord"))) < done and time.monotonic() < deadline:
            time.sleep(0.05)
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{done} shards are finished, but not recorded")

    start = engine_factory(tmp_path / "trace", wait_for_the_record_of_the_shard_before)
    manifest = explain(on_ray(make_job(pairs[:6], shard_size=2), start, workers=1), out)
    assert [shard["pairs"] for shard in manifest["shards"]] == [2, 2, 2]


def test_a_shard_that_kills_every_worker_ends_the_run(tmp_path, make_job, pairs):
    def die(_):
        import os

        os.kill(os.getpid(), 9)

    job = on_ray(make_job(pairs[:2]), engine_factory(tmp_path / "trace", die), workers=1, max_restarts=1)
    with pytest.raises(InputError, match=r"Ray gave up: .*\(finished shards are kept: mend it and run the same"):
        explain(job, tmp_path / "out")


def test_an_engine_that_does_not_start_says_why(tmp_path, make_job, pairs):
    def start():
        raise InputError("vLLM cannot load llama")

    with pytest.raises(InputError, match=r"Ray gave up: .*vLLM cannot load llama"):
        explain(on_ray(make_job(pairs[:2]), start, workers=1), tmp_path / "out")


def test_a_cluster_too_small_is_refused(tmp_path, make_job, pairs):
    job = on_ray(make_job(pairs), engine_factory(tmp_path / "trace"), workers=3)
    with pytest.raises(InputError, match=r"3 workers of 1 CPUs each, but the cluster has 2 \(--gin.ray.workers=N\)"):
        explain(job, tmp_path / "out")
    job = on_ray(make_job(pairs), engine_factory(tmp_path / "trace"), gpus_per_worker=1)
    with pytest.raises(InputError, match=r"2 workers of 1 GPUs each, but the cluster has 0"):
        explain(job, tmp_path / "out")
    with pytest.raises(InputError, match=r"ray.workers is 0, expected at least 1"):
        RayConfig(workers=0)
