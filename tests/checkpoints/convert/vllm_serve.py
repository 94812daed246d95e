"""A program: becomes vLLM's server of an exported ranker, with the words of docs/elsewhere.md.

`vllm serve` starts this module; the command itself does not run in the CPU build, whose package has another name.
"""

import os
import sys

from exaranker.preprocess.engines.vllm import VLLMConfig, set_environment


def main(folder: str, port: str) -> None:
    set_environment(VLLMConfig())
    words = ["--runner", "pooling", "--convert", "classify", "--dtype", "float32", "--max-model-len", "1024"]
    words += ["--chat-template", f"{folder}/chat_template.jinja", "--enforce-eager", "--host", "127.0.0.1"]
    server = ["-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--port", port]
    os.execv(sys.executable, [sys.executable, *server, *words])


if __name__ == "__main__":
    main(*sys.argv[1:])
