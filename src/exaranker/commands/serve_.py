"""exaranker serve."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from exaranker.commands.checkpoint_flags import add_checkpoint, loading
from exaranker.embedded import RANKER
from exaranker.errors import InputError, require
from exaranker.files import read_lines
from exaranker.files.shipped import shipped
from exaranker.logs import warn
from exaranker.texts.rows import TITLES
from exaranker.texts.sources import open_texts

if TYPE_CHECKING:
    from exaranker.serve.search import Searcher
    from exaranker.serve.service import Service

SUMMARY = """Serves a checkpoint to clients of Cohere, Jina, vLLM and text-embeddings-inference, or of MCP.
A score is the probability of relevance; log-odds if a request asks for them. A browser gets a page at /: BM25's
ranking and ours side by side, and why."""
EXAMPLE = "exaranker serve --checkpoint out/model --port 8080"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free (default: %(default)s)")
    parser.add_argument("--mcp", action="store_true", help="speak MCP over stdin and stdout instead of HTTP")
    parser.add_argument("--name", help="the model's name in answers (default: the checkpoint's folder)")
    parser.add_argument(
        "--api_key_file", type=Path, metavar="FILE", help="answer only requests with this Bearer key (default: all)"
    )
    page = parser.add_argument_group("the page at /")
    page.add_argument(
        "--passages", metavar="FILE|DIR|ID", help="what it searches, as `exaranker retrieve` (default: the sample)"
    )
    page.add_argument("--title", choices=TITLES, default="first", help="where a passage's title is put")
    page.add_argument("--index", type=Path, metavar="DIR", help="the index that `exaranker retrieve` kept of them")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max_documents", type=int, default=2048, help="of a request (default: %(default)s)")
    limits.add_argument("--max_payload", type=int, default=16 * 2**20, help="bytes (default: %(default)s)")
    limits.add_argument("--max_requests", type=int, default=128, help="open at once (default: %(default)s)")
    limits.add_argument(
        "--max_waiting_tokens", type=int, default=2**20, help="beyond them 429 is answered (default: %(default)s)"
    )
    limits.add_argument("--timeout", type=float, default=120.0, help="seconds of a request (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    for name in ("max_documents", "max_payload", "max_requests", "max_waiting_tokens", "timeout"):
        if getattr(args, name) <= 0:
            raise InputError(f"--{name} {getattr(args, name)}, expected more than 0")
    if not 0 <= args.port < 2**16:
        raise InputError(f"--port {args.port}, expected 0 to 65535")
    if args.index is not None and args.passages is None:
        raise InputError("--index has no texts", hint="give --passages too, of which it was made")
    for module in ("fastapi", "uvicorn", "prometheus_client", "bm25s", "Stemmer", *(["mcp"] if args.mcp else [])):
        require(module, "serve")
    if args.mcp:
        _serve_mcp(args)
    else:
        _serve_http(args)


def _serve_http(args: argparse.Namespace) -> None:
    require("jax", "rank")
    from exaranker.serve.server import listen, serve

    key = args.api_key_file and _read_key(args.api_key_file)
    if key is None and args.host not in LOOPBACK:
        warn(f"whoever reaches {args.host} can rank here: --api_key_file asks for a key")
    listening = listen(args.host, args.port)  # before the model, which takes longer to load than to be refused
    with tempfile.TemporaryDirectory() as scratch:
        serve(_service(args), _searcher(args, Path(scratch)), listening, key)


def _searcher(args: argparse.Namespace, scratch: Path) -> "Searcher":
    from exaranker.serve.search import Searcher

    passages = args.passages or shipped("examples/sample") / "passages.tsv"
    return Searcher.of(open_texts(passages, "passages", args.title), args.index, scratch)


def _serve_mcp(args: argparse.Namespace) -> None:
    from exaranker.serve.mcp_server import serve_stdio

    serve_stdio(lambda: _service(args))


def _service(args: argparse.Namespace) -> "Service":
    how = loading(args)
    from exaranker.rank.reranker import Reranker
    from exaranker.serve.limits import Limits
    from exaranker.serve.service import Service

    reranker = Reranker.from_checkpoint(args.checkpoint, **how)
    limits = Limits(args.max_payload, args.max_documents, args.max_requests, args.max_waiting_tokens, args.timeout)
    name = RANKER
    if args.checkpoint is not None:
        given = args.checkpoint.absolute()
        name = (given.parent if given == reranker.model.path else given).name  # MODEL_DIR's, or a hub id's last part
    return Service(reranker, args.name or name, limits)


def _read_key(path: Path) -> str:
    """The key in a file's first line.

    Raises:
        InputError: the file cannot be read, or has no key in it.
    """
    _, line = next(read_lines(path))
    if not line.strip() or not line.isprintable() or not line.isascii():
        raise InputError("no key here", path=path, line=1, hint="expected printable ASCII characters")
    return line.strip()
