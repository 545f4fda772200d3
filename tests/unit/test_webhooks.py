"""Webhooks on loopback: who is let in, and how several hints become one."""

import http.client
import threading
from collections.abc import Iterator

import pytest

from sparsight.errors import SparsightError
from sparsight.local.webhooks import SECRET_HEADER, Hints, listening

SECRET = "s3cret"


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_hints_close_together_are_let_through_as_one(clock: Clock) -> None:
    hints = Hints(quiet=5, longest=60, now=clock)
    assert not hints.wait(0)
    for _ in range(3):
        hints.give()
        clock.time += 2
    assert hints.due() == 4 + 5
    clock.time = 9
    assert hints.wait(0)
    assert not hints.wait(0)


def test_hints_without_end_are_let_through_now_and_then(clock: Clock) -> None:
    hints = Hints(quiet=5, longest=60, now=clock)
    for _ in range(30):
        hints.give()
        clock.time += 4
    assert hints.due() == 60
    assert hints.wait(0)


def test_waiting_ends_with_a_hint_from_another_thread() -> None:
    hints = Hints(quiet=0, longest=0)
    threading.Timer(0.05, hints.give).start()
    assert hints.wait(60)


@pytest.fixture
def hints() -> Hints:
    return Hints(quiet=0, longest=0)


@pytest.fixture
def port(hints: Hints) -> Iterator[int]:
    with listening(0, SECRET, hints) as port:
        yield port


def ask(port: int, method: str = "POST", body: bytes = b"{}", **headers: str | None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    given = {SECRET_HEADER: SECRET, "Content-Length": str(len(body))} | headers
    try:
        connection.request(method, "/", body, {name: value for name, value in given.items() if value is not None})
        return connection.getresponse().status
    finally:
        connection.close()


def test_who_shows_the_secret_is_heard(port: int, hints: Hints) -> None:
    assert ask(port) == 202
    assert hints.due() is not None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({SECRET_HEADER: None}, 401),
        ({SECRET_HEADER: "other"}, 401),
        ({SECRET_HEADER: "s3cret\xe9"}, 401),
        ({"method": "GET"}, 501),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": str(2**20 + 1)}, 413),
    ],
)
def test_others_are_not(port: int, hints: Hints, request_: dict[str, str | None], status: int) -> None:
    assert ask(port, **request_) == status  # type: ignore[arg-type]
    assert hints.due() is None


def test_a_port_that_is_taken_is_told(port: int, hints: Hints) -> None:
    with (
        pytest.raises(SparsightError, match=rf"Port {port} of 127\.0\.0\.1 can't be listened on"),
        listening(port, "x", hints),
    ):
        pass
