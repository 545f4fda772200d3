"""A small HTTP server on 127.0.0.1 for the length of a block."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sparsight.errors import SparsightError
from sparsight.local.processes import HOST


class Quiet:
    """Has a handler of requests not tell which software it is, and log nothing."""

    server_version, sys_version = "sparsight", ""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: what strangers send isn't worth a line each."""


@contextlib.contextmanager
def serving(port: int, handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Answer requests, each in a thread of its own, for the length of a block.

    Args:
        port: on 127.0.0.1; 0 is a free one.
        handler: answers them.

    Yields:
        The port.

    Raises:
        SparsightError: the port is taken.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise SparsightError(
            f"Port {port} of {HOST} can't be listened on: {error.strerror}.", hint="Give another with --port."
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
