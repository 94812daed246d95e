"""The process: a socket, uvicorn around the application, and an end that loses no answer."""

import errno
import os
import signal
import socket

import uvicorn

from exaranker.errors import InputError
from exaranker.logs import show
from exaranker.serve.app import create_app
from exaranker.serve.search import Searcher
from exaranker.serve.service import Service

KEEP_ALIVE = 30  # seconds a connection may be idle
ENDING = 10  # seconds beyond a request's own time, at the end


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any that is free.

    Raises:
        InputError: the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        is_taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        hint = "try another --port" if is_taken else "--host is a name or address of this machine"
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise InputError(f"cannot listen at {host} port {port}: {reason}", hint=hint) from error


def serve(service: Service, searcher: Searcher, listening: socket.socket, api_key: str | None = None) -> None:
    """Answers until SIGTERM or SIGINT; then no connection is taken any more, and what is open is answered first."""
    seconds = service.limits.seconds
    config = uvicorn.Config(
        create_app(service, searcher, api_key),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(seconds + ENDING),
    )
    host, port = listening.getsockname()[:2]
    show(
        f"{service.name} answers at http://{f'[{host}]' if ':' in host else host}:{port} (its page: /, its API: /docs)"
    )
    # uvicorn ends in good order, and then raises the signal again, for a default that would end us as if killed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    uvicorn.Server(config).run(sockets=[listening])
    show("every open request was answered")
