"""The search server: what it lets in, what it refuses, and how it says so."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sparsight.errors import SparsightError
from sparsight.local.search_server import MOST_BYTES, Question, serving


class Asked(list[Question]):
    """Remembers what was asked, and answers."""

    def __call__(self, question: Question) -> dict[str, Any]:
        self.append(question)
        if question.photo == b"no image":
            raise SparsightError("The image can't be used: damaged.", hint="Take another.")
        return {"neighbours": [{"id": "<b>", "distance": 3}]}


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def port(asked: Asked) -> Iterator[int]:
    with serving(0, asked, lambda: {"photos": 5, "model": "photos/1", "bits": 64}) as port:
        yield port


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if path.startswith("/api") else content, response.headers


def test_a_photo_is_answered_with_its_neighbours(port: int, asked: Asked) -> None:
    status, content, headers = ask(port, "POST", "/api/search?k=4&label=dog/poodle&thumbnails=true", b"photo")
    assert (status, content) == (200, {"neighbours": [{"id": "<b>", "distance": 3}]})
    assert asked == [Question(photo=b"photo", count=4, label="dog/poodle", thumbnails=True)]
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    ask(port, "POST", "/api/search", b"photo")
    assert asked[1] == Question(photo=b"photo", count=10, label="", thumbnails=False)


def test_the_page_and_what_is_in_the_index(port: int) -> None:
    status, page, headers = ask(port, "GET", "/")
    assert status == 200
    assert b"<title>Similar photos" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(port, "GET", "/api/index")[1] == {"photos": 5, "model": "photos/1", "bits": 64}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("POST", "/api/search", b"no image", {}, 400, "The image can't be used: damaged.\nTake another."),
        ("POST", "/api/search?k=many", b"photo", {}, 400, "k is 'many'; expected how many"),
        ("POST", "/api/search?k=-1", b"photo", {}, 400, "k is '-1'"),
        ("POST", "/api/other", b"photo", {}, 404, "Photos go to /api/search."),
        ("GET", "/api/search", None, {}, 404, "There are / and /api/index"),
        ("GET", "/api/../etc/passwd", None, {}, 404, "There are /"),
        ("POST", "/api/search", b"", {"Content-Length": "many"}, 411, "Content-Length"),
        ("POST", "/api/search", bytes(MOST_BYTES + 1), {}, 413, "16 MiB at most"),
        ("GET", "/api/index", None, {"Host": "photos.example"}, 403, "this machine's own pages"),
        ("POST", "/api/search", b"photo", {"Origin": "http://photos.example"}, 403, "this machine's own pages"),
        ("POST", "/api/search", b"photo", {"Origin": "null"}, 403, "this machine's own pages"),
    ],
)
def test_what_is_refused_says_why(
    method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, message: str, port: int
) -> None:
    found = ask(port, method, path, body, **headers)
    assert found[0] == status
    assert message in found[1]["error"]


def test_its_own_page_may_ask(port: int) -> None:
    assert ask(port, "POST", "/api/search", b"photo", Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_a_photo_that_ends_too_early_is_told(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nshort")
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b" 400 " in answer.splitlines()[0]
    assert b"ended too early" in answer


def test_a_port_that_is_taken_is_told(port: int, asked: Asked) -> None:
    with pytest.raises(SparsightError, match=f"Port {port} of 127.0.0.1"), serving(port, asked, dict):
        pass
