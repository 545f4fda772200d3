"""Serves searches on 127.0.0.1: a page to drop a photo on, and JSON for programs."""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from sparsight.errors import SparsightError
from sparsight.local import http_server
from sparsight.local.processes import HOST

MOST_BYTES = 16 * 2**20
"""Of a photo that somebody asks about."""
_MOST_PASSED_OVER = 16 * MOST_BYTES
_READING_SECONDS = 30.0
_PAGE = Path(__file__).with_name("search_page.html")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; img-src data: blob:; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What somebody asks.

    Attributes:
        photo: a whole image file.
        count: how many neighbours.
        label: at or below which they must be; empty for any.
        thumbnails: whether small pictures are wanted, too.
    """

    photo: bytes
    count: int
    label: str
    thumbnails: bool


Answer: TypeAlias = Callable[[Question], Mapping[str, Any]]


@contextlib.contextmanager
def serving(port: int, answer: Answer, about: Callable[[], Mapping[str, Any]]) -> Iterator[int]:
    """Serve searches for the length of a block.

    Args:
        port: on 127.0.0.1; 0 is a free one.
        answer: what answers a question, JSON-able; a SparsightError that it raises is told to who asked. One thread at
            a time calls it.
        about: tells what the page says of the index, JSON-able.

    Yields:
        The port.

    Raises:
        SparsightError: the port is taken.
    """
    members = {"answer": staticmethod(answer), "about": staticmethod(about), "one_at_a_time": threading.Lock()}
    with http_server.serving(port, type("SearchHandler", (_Handler,), members)) as taken:
        yield taken


class _Refused(Exception):  # noqa: N818 -- it is told, not raised further
    """A request that can't be answered: with which status, and why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Handler(http_server.Quiet, BaseHTTPRequestHandler):
    """`GET /` is the page, `GET /api/index` tells of the index, `POST /api/search` takes an image file as its body."""

    answer: Answer
    about: Callable[[], Mapping[str, Any]]
    one_at_a_time: threading.Lock
    timeout = _READING_SECONDS

    def do_GET(self) -> None:
        self._respond(self._get)

    def do_POST(self) -> None:
        self._respond(self._search)

    def _respond(self, act: Callable[[], tuple[str, bytes]]) -> None:
        status = HTTPStatus.OK
        try:
            self._check_host()
            kind, content = act()
        except _Refused as refusal:
            status, (kind, content) = refusal.status, _json({"error": refusal.reason})
        except SparsightError as error:
            status, (kind, content) = HTTPStatus.BAD_REQUEST, _json({"error": str(error)})
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **_HEADERS}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def _check_host(self) -> None:
        """Refuse pages of other sites that have had their name lead to this machine."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        origin = self.headers.get("Origin")
        if host not in {HOST, "localhost"} or (origin and urlsplit(origin).netloc != self.headers["Host"]):
            raise _Refused(HTTPStatus.FORBIDDEN, "This server is for this machine's own pages and programs.")

    def _get(self) -> tuple[str, bytes]:
        match urlsplit(self.path).path:
            case "/":
                return "text/html; charset=utf-8", _PAGE.read_bytes()
            case "/api/index":
                return _json(self.about())
        raise _Refused(HTTPStatus.NOT_FOUND, "There are / and /api/index, and POST /api/search.")

    def _search(self) -> tuple[str, bytes]:
        url = urlsplit(self.path)
        if url.path != "/api/search":
            raise _Refused(HTTPStatus.NOT_FOUND, "Photos go to /api/search.")
        options = {name: values[-1] for name, values in parse_qs(url.query).items()}
        count = options.get("k", "10")
        if not (count.isascii() and count.isdecimal() and len(count) < 7):
            raise _Refused(HTTPStatus.BAD_REQUEST, f"k is {count[:20]!r}; expected how many neighbours to find.")
        question = Question(
            photo=self._body(),
            count=int(count),
            label=options.get("label", ""),
            thumbnails=options.get("thumbnails") == "true",
        )
        with self.one_at_a_time:
            return _json(self.answer(question))

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Say how long the photo is, with Content-Length.")
        if int(length) > MOST_BYTES:
            self._pass_over(int(length))
            raise _Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A photo can have {MOST_BYTES / 2**20:.0f} MiB at most."
            )
        content = self.rfile.read(int(length))
        if len(content) != int(length):
            raise _Refused(HTTPStatus.BAD_REQUEST, "The photo ended too early.")
        return content

    def _pass_over(self, length: int) -> None:
        """Read what won't be looked at, up to a limit: whoever is still sending doesn't hear an answer."""
        left = min(length, _MOST_PASSED_OVER)
        while left > 0 and (part := self.rfile.read(min(left, 2**16))):
            left -= len(part)


def _json(content: Mapping[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(content).encode()
