"""A program: vLLM's scores of (query, passage) pairs by an exported ranker, as JSON."""

import json
import sys
from pathlib import Path

from exaranker.preprocess.engines.vllm import VLLMConfig, set_environment


def main(folder: str, pairs_file: str, output: str) -> None:
    set_environment(VLLMConfig())
    import vllm

    pairs = json.loads(Path(pairs_file).read_text())
    llm = vllm.LLM(
        folder, runner="pooling", convert="classify", dtype="float32", max_model_len=1024, enforce_eager=True
    )
    template = (Path(folder) / "chat_template.jinja").read_text()
    params = vllm.PoolingParams(use_activation=False)
    queries, passages = (list(texts) for texts in zip(*pairs, strict=True))
    found = llm.score(queries, passages, pooling_params=params, chat_template=template, use_tqdm=False)
    Path(output).write_text(json.dumps([one.outputs.score for one in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
