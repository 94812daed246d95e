"""The console script: `exaranker VERB`. Exits 0 on success, 2 on bad input with one line on stderr, 1 on a fault."""

import argparse
import importlib
import importlib.util
import os
import select
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from exaranker import __version__, logs
from exaranker.errors import InputError, nearest
from exaranker.files import localised, named, system_error
from exaranker.files.numbers import integer, number

VERBS = {
    "explain": "labelled pairs -> explanations, written by an open LLM, as TFRecords",
    "inspect": "verify an explanation dataset and show what is in it",
    "export-explanations": "explanation dataset -> JSON Lines, Parquet or the released TSV, with a dataset card",
    "train": "fine-tune a reranker on a SeqIO task or mixture",
    "infer": "run a SeqIO task through a checkpoint: predictions or scores as JSON lines",
    "eval": "a SeqIO task's own metrics for a checkpoint",
    "retrieve": "first stage: BM25 over a passage file -> TREC run",
    "rerank": "TREC run -> reranked TREC run (and explanations on demand)",
    "why": "one passage: label, score, explanations, and what each sentence adds",
    "merge": "shards of a rerank job -> one run",
    "faithfulness": "explanations of a run, held against what each sentence adds to the score",
    "serve": "rank for clients of Cohere, Jina, vLLM and TEI over HTTP, or of MCP",
    "evaluate": "runs + qrels -> measures with significance tests",
    "report": "results and explanations -> one HTML page",
    "check-results": "expected figures, rerun and compared",
    "import": "Hugging Face or T5X checkpoint -> ours",
    "export": "our checkpoint -> Hugging Face or T5X",
    "demo": "the whole pipeline on the embedded sample",
}


# What brings the packages that a verb imports, where it is not `train`.
EXTRAS = dict.fromkeys(("retrieve", "evaluate", "report", "check-results"), "evaluate")
EXTRAS |= {"explain": "explain", "inspect": "explain", "export-explanations": "export", "demo": "demo"}
EXTRAS |= dict.fromkeys(("rerank", "why", "merge", "import", "export"), "rank")
EXTRAS |= {"serve": "rank,serve", "faithfulness": "rank,evaluate"}


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
    given, _ = _message_arguments().parse_known_args(arguments[1:])  # before what may fail, so that errors follow it
    logs.configure(logs.LogStyle(verb, given.quiet, given.verbose, given.log_format == "json"), named)
    program = f"exaranker {verb}"
    try:
        command = importlib.import_module(f"exaranker.commands.{verb.replace('-', '_')}_")
        command.run(_parse(program, command, [localised(word) for word in arguments[1:]]))
    except InputError as error:
        _fail(program, str(error))
    except KeyboardInterrupt:
        logs.fail(program, "interrupted; run the same command again to continue")
        sys.exit(130)
    except BrokenPipeError:
        raise
    except ImportError as error:
        if (package := _missing(error)) is None:
            _last_resort(program, error)
        extra = EXTRAS.get(verb, "train")
        _fail(program, f"this needs the package {package} (pip install 'exaranker[{extra}]')")
    except Exception as error:
        _last_resort(program, error)


def _parse(program: str, command: ModuleType, words: list[str]) -> argparse.Namespace:
    """The verb's arguments, with `~` expanded and what `--gin.` words bind beside them."""
    parser = _Parser(
        prog=program,
        description=command.SUMMARY,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_message_arguments()],
    )
    command.add_arguments(parser)
    args, rest = parser.parse_known_args(words)
    bindings = [word.removeprefix("--gin.") for word in rest if word.startswith("--gin.")]
    stray = [word for word in rest if not word.startswith("--gin.")]
    if stray or (bindings and not hasattr(args, "gin_file")):
        parser.refuse(stray or rest)
    args.gin_bindings = [*getattr(args, "gin_bindings", []), *bindings]
    for name, value in vars(args).items():
        setattr(args, name, _at_home(value))
    return args


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the words in one line, as every other error; takes numbers as files do."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        for kind, read in _READERS.items():
            self.register("type", kind, read)

    def error(self, message: str) -> NoReturn:
        _fail(self.prog, f"{message} ({self.prog} --help lists what there is)")

    def refuse(self, words: list[str]) -> NoReturn:
        """Ends with the words that are no options, and the option that was probably meant."""
        problem = f"unrecognized arguments: {' '.join(words)}"
        options = [name for name in self._option_string_actions if name.startswith("--")]
        mistyped = next((word.partition("=")[0] for word in words if word.startswith("--")), None)
        _fail(self.prog, f"{problem} ({nearest(mistyped, options)})" if mistyped else problem)


def _integer(text: str) -> int:
    value = integer(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}")
    return value


def _number(text: str) -> float:
    value = number(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return value


def _path(text: str) -> Path:
    """Path("") is the folder at hand, which nobody means who gives a variable of the shell that is not set."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return Path(text)


_READERS: dict[Any, Callable[[str], Any]] = {int: _integer, float: _number, Path: _path}


def _message_arguments() -> argparse.ArgumentParser:
    """What every verb understands of how it shows messages."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("messages")
    group.add_argument("--quiet", action="store_true", help="answers, warnings and errors only: no progress")
    group.add_argument("--verbose", action="store_true", help="also what the libraries say, and tracebacks")
    group.add_argument(
        "--log_format", choices=("text", "json"), default="text", help="json: one object a line (default: %(default)s)"
    )
    return parser


def _at_home(value: Any) -> Any:
    """A shell leaves the `~` of --output=~/run.trec as it is."""
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    return type(value)(os.path.expanduser(value)) if isinstance(value, str | Path) else value


def _missing(error: ImportError) -> str | None:
    """The package that is not installed, if that is why something cannot be imported."""
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("exaranker"):
        return error.name.partition(".")[0]
    # jaxlib, which is built against numpy, says only that it could not be initialised.
    return None if importlib.util.find_spec("numpy") else "numpy"


def _last_resort(program: str, error: Exception) -> NoReturn:
    """One line also for what nobody foresaw: what the system refuses is the user's to mend, the rest is ours."""
    if logs.is_verbose():
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno and error.filename is not None:
        _fail(program, str(system_error(error)))
    reason = " ".join(str(error).split())[:300]
    logs.fail(program, f"{type(error).__name__}{reason and ': '}{reason} ({_keep_traceback(error)})")
    sys.exit(1)


def _keep_traceback(error: Exception) -> str:
    """Where the traceback is kept."""
    try:
        handle, path = tempfile.mkstemp(prefix="exaranker-", suffix=".traceback.txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            traceback.print_exception(error, file=stream)
    except OSError:
        return "the traceback could not be kept: give --verbose to see it"
    return f"unexpected; please report it with the traceback in {path}"


def _stdout_is_closed() -> bool:
    """Whether the reader of our output has gone (a broken pipe may also be an engine's)."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _overview() -> str:
    width = max(map(len, VERBS))
    rows = "\n".join(f"  {verb:{width}}  {what}" for verb, what in VERBS.items())
    return f"usage: exaranker VERB [--help] ...\n\n{__doc__}\n\nverbs:\n{rows}"


def _fail(program: str, message: str) -> NoReturn:
    logs.fail(program, message)
    sys.exit(2)


if __name__ == "__main__":
    main()
