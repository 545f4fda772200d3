"""Hears on 127.0.0.1 that something changed in Label Studio, and says when it is time to look what.

Label Studio sends a webhook once, waits a second for the answer, and doesn't send any for imports: what arrives is a
hint that a sync is worth its while, and what doesn't arrive is caught up with now and then.
"""

import contextlib
import hmac
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from sparsight.local import http_server

SECRET_HEADER = "X-Sparsight-Secret"  # noqa: S105 - its name, not the secret
_MOST_BYTES = 1 << 20
_READING_SECONDS = 5.0


class Hints:
    """Gathers hints, and lets one through for all that come close together.

    Args:
        quiet: seconds without another hint after which the gathered ones are let through.
        longest: seconds after which they are all the same.
        now: a clock that never goes back.
    """

    def __init__(self, quiet: float, longest: float, now: Callable[[], float] = time.monotonic) -> None:
        self.quiet, self.longest, self._now = quiet, longest, now
        self._changed = threading.Condition()
        self._first: float | None = None
        self._last = 0.0

    def give(self) -> None:
        """Note a hint."""
        with self._changed:
            self._last = self._now()
            self._first = self._last if self._first is None else self._first
            self._changed.notify_all()

    def due(self) -> float | None:
        """When the gathered hints are let through, by the clock; None where there is none."""
        return None if self._first is None else min(self._last + self.quiet, self._first + self.longest)

    def wait(self, patience: float) -> bool:
        """Wait until hints are let through, and forget them; says False where none came within `patience` seconds."""
        until = self._now() + patience
        with self._changed:
            while (due := self.due()) is None or due > self._now():
                left = (until if due is None else due) - self._now()
                if left <= 0:
                    return False
                self._changed.wait(left)
            self._first = None
            return True


@contextlib.contextmanager
def listening(port: int, secret: str, hints: Hints) -> Iterator[int]:
    """Take webhooks for the length of a block, and give a hint for each that shows the secret.

    Args:
        port: on 127.0.0.1; 0 is a free one.
        secret: what the header `X-Sparsight-Secret` must hold.
        hints: where hints go.

    Yields:
        The port.

    Raises:
        SparsightError: the port is taken.
    """
    handler = type("WebhookHandler", (_Handler,), {"secret": secret, "hints": hints})
    with http_server.serving(port, handler) as taken:
        yield taken


class _Handler(http_server.Quiet, BaseHTTPRequestHandler):
    """Answers at once; the body is read and thrown away, since what is in it will be read from an export."""

    secret: str
    hints: Hints
    timeout = _READING_SECONDS

    def do_POST(self) -> None:
        status = self._judge()
        if status is HTTPStatus.ACCEPTED:
            self.hints.give()
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def _judge(self) -> HTTPStatus:
        given = self.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), self.secret.encode()):
            return HTTPStatus.UNAUTHORIZED
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return HTTPStatus.LENGTH_REQUIRED
        if int(length) > _MOST_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        whole = len(self.rfile.read(int(length))) == int(length)
        return HTTPStatus.ACCEPTED if whole else HTTPStatus.BAD_REQUEST
