"""What the image store says and makes of answers that Azurite can't give: tokens, busy servers, redirects."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from sparsight.errors import SparsightError
from sparsight.stores import images
from sparsight.stores.images import ImageError, ImageStore
from sparsight.stores.settings import BlobSettings

OK = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nphoto"


class Identity:
    """An identity that hands out numbered tokens of a set lifetime."""

    def __init__(self, lifetime: float, error: str = "") -> None:
        self.lifetime, self.error, self.asked = lifetime, error, 0

    async def get_token(self, *scopes: str, **_: object) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        if self.error:
            raise ClientAuthenticationError(self.error)
        self.asked += 1
        return AccessToken(f"token-{self.asked}", int(time.time() + self.lifetime))


@contextmanager
def signed_in_as(identity: Identity) -> Iterator[None]:
    """Sign in without Azure; the SDK's client, which downloads don't use, takes no token without TLS."""

    async def credential(stack: object) -> Identity:
        return identity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "credential", credential)
        patch.setattr(images, "blob_service", lambda settings: nullcontext())
        yield


def download(answers: list[str], *, times: int = 1, identity: Identity | None = None, **options: int) -> list[str]:
    """Download from a server that gives these answers one after the other; returns the requests it got."""
    requests: list[str] = []
    left = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(next(left).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).encode())
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, ImageStore(BlobSettings(endpoint=f"http://127.0.0.1:{port}/acct"), **options) as store:
            for _ in range(times):
                assert await store.download("photos/a b.jpg") == b"photo"

    with signed_in_as(identity or Identity(3600)):
        asyncio.run(run())
    return requests


def test_a_token_goes_into_the_header_and_never_into_the_address() -> None:
    (request,) = download([OK])
    assert request.startswith("GET /acct/photos/a%20b.jpg HTTP/1.1\r\n")
    assert "\r\nAuthorization: Bearer token-1\r\n" in request
    assert "\r\nx-ms-version: " in request


@pytest.mark.parametrize(("lifetime", "asked"), [(3600, 1), (60, 3)])
def test_a_token_is_kept_until_shortly_before_it_runs_out(lifetime: float, asked: int) -> None:
    identity = Identity(lifetime)
    download([OK, OK, OK], times=3, identity=identity)
    assert identity.asked == asked


def test_a_token_is_not_sent_in_clear_text() -> None:
    async def run() -> None:
        async with ImageStore(BlobSettings(endpoint="http://127.0.0.1:9/acct")):
            pass

    with pytest.raises(SparsightError, match="only supported with HTTPS") as caught:
        asyncio.run(run())
    assert "SPARSIGHT_BLOB_KEY" in caught.value.hint


def test_no_way_to_sign_in_is_told() -> None:
    with pytest.raises(SparsightError, match=r"No way to sign in to .*: no identity\n") as caught:
        download([OK], identity=Identity(60, "no identity\nand a long trace"))
    assert "az login" in caught.value.hint


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Server Busy", "500 Internal Error", "408 Timeout"])
def test_a_busy_server_is_asked_again_after_what_it_asks_for(status: str) -> None:
    busy = f"HTTP/1.1 {status}\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
    assert len(download([busy, busy, OK])) == 3


def test_a_cut_answer_is_asked_for_again() -> None:
    cut = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nphot"
    assert len(download([cut, OK])) == 2


@pytest.mark.parametrize(
    ("answer", "reason", "transient"),
    [
        ("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", "network: HTTP 503, tried 2 times", True),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/x\r\nContent-Length: 0\r\n\r\n",
            "refused: HTTP 302",
            False,
        ),
        (
            "HTTP/1.1 409 Conflict\r\nx-ms-error-code: BlobArchived\r\nContent-Length: 0\r\n\r\n",
            "refused: HTTP 409 BlobArchived",
            False,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nmore bytes.\r\n0\r\n\r\n",
            "too large (bytes)",
            False,
        ),
    ],
)
def test_other_answers_are_told(answer: str, reason: str, transient: bool) -> None:
    with pytest.raises(ImageError) as caught:
        download([answer, answer], tries=2, max_bytes=10)
    assert (caught.value.reason, caught.value.transient) == (reason, transient)


def test_an_answer_of_unannounced_length_is_taken_whole() -> None:
    download(["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nphoto\r\n0\r\n\r\n"], max_bytes=5)
