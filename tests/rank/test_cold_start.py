"""From the import to the first score: what is compiled is kept, and what ranking does not need is not imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

CODE = """
import json, resource, sys, time
from exaranker import Reranker
reranker = Reranker.from_checkpoint(sys.argv[1], max_length=128)
scores = list(reranker.score([("how do bees make honey", "Worker bees turn nectar into honey in the comb.")]))
usage = resource.getrusage(resource.RUSAGE_SELF)
heavy = [name for name in ("tensorflow", "seqio", "torch", "transformers", "vllm") if name in sys.modules]
print(json.dumps({"scores": scores, "heavy": heavy, "seconds": usage.ru_utime + usage.ru_stime}))
"""


def test_a_second_process_finds_what_the_first_compiled(t5_checkpoint: Path, tmp_path: Path) -> None:
    """In CPU seconds, which do not depend on what else the machine does."""
    environment = {**os.environ, "EXARANKER_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", CODE, str(t5_checkpoint)]
    first, second = (json.loads(subprocess.check_output(command, env=environment)) for _ in range(2))
    assert first["heavy"] == second["heavy"] == []
    assert second["scores"] == first["scores"]
    assert second["seconds"] < min(10, first["seconds"])
    assert list(tmp_path.glob("compiled/*/*-cache"))
