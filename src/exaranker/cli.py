"""The console script: `exaranker VERB`. Exits 0 on success, 2 on bad usage or input with one line on stderr."""

import argparse
import importlib
import os
import select
import sys
from collections.abc import Sequence

from exaranker import __version__
from exaranker.errors import InputError, nearest

VERBS = {
    "explain": "labelled pairs -> explanations, written by an open LLM, as TFRecords",
    "inspect": "verify an explanation dataset and show what is in it",
    "train": "fine-tune a reranker on a SeqIO task or mixture",
    "infer": "run a SeqIO task through a checkpoint: predictions or scores as JSON lines",
    "eval": "a SeqIO task's own metrics for a checkpoint",
    "retrieve": "first stage: BM25 over a passage file -> TREC run",
    "rerank": "TREC run -> reranked TREC run (and explanations on demand)",
    "evaluate": "runs + qrels -> measures with significance tests",
    "report": "results and explanations -> one HTML page",
    "import": "Hugging Face or T5X checkpoint -> ours",
    "export": "our checkpoint -> Hugging Face or T5X",
    "demo": "the whole pipeline on the embedded sample",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one verb; exits with what the module's docstring says, unless it returns."""
    try:
        try:
            _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print goes nowhere
        sys.exit(141)  # as a shell reports SIGPIPE: `exaranker ... | head` is not an error worth a message


def _main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(f"exaranker {__version__}")
        sys.exit(0)
    verb = arguments[0]
    if verb not in VERBS:
        _fail("exaranker", f"no verb {verb!r} ({nearest(verb, VERBS)})")
    command = importlib.import_module(f"exaranker.commands.{verb}_")
    parser = argparse.ArgumentParser(
        prog=f"exaranker {verb}",
        description=command.SUMMARY,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    args, rest = parser.parse_known_args(arguments[1:])
    bindings = [word.removeprefix("--gin.") for word in rest if word.startswith("--gin.")]
    stray = [word for word in rest if not word.startswith("--gin.")]
    if stray or (bindings and not hasattr(args, "gin_file")):
        parser.error(f"unrecognized arguments: {' '.join(stray or rest)}")
    args.gin_bindings = [*getattr(args, "gin_bindings", []), *bindings]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up notes would drown the progress lines
    try:
        command.run(args)
    except InputError as error:
        _fail(f"exaranker {verb}", str(error))
    except KeyboardInterrupt:
        print(f"exaranker {verb}: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)


def _stdout_is_closed() -> bool:
    """Whether the reader of our output has gone (a broken pipe may also be an engine's)."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _overview() -> str:
    width = max(map(len, VERBS))
    rows = "\n".join(f"  {verb:{width}}  {what}" for verb, what in VERBS.items())
    return f"usage: exaranker VERB [--help] ...\n\n{__doc__}\n\nverbs:\n{rows}"


def _fail(program: str, message: str) -> None:
    print(f"{program}: error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
