"""The image store against a real Azurite: up and down, retries, limits, and nowhere else."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from sparsight.errors import SparsightError
from sparsight.local.services import Services, environment
from sparsight.stores.images import ImageError, ImageStore
from sparsight.stores.settings import BlobSettings
from tests.gate import gate

T = TypeVar("T")
CONTAINER = "image-store-test"


@pytest.fixture
def settings(services: Services) -> BlobSettings:
    return BlobSettings.from_environment(environment(services))


def with_store(settings: BlobSettings, use: Callable[[ImageStore], Awaitable[T]], **options: int) -> T:
    async def run() -> T:
        async with ImageStore(settings, **options) as store:
            await store.ensure_container(CONTAINER)
            return await use(store)

    return asyncio.run(run())


def reason_for(settings: BlobSettings, uri: str, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        with_store(settings, lambda store: store.download(uri), **options)
    return caught.value.reason


def test_what_goes_up_comes_down_and_is_written_once(settings: BlobSettings) -> None:
    async def use(store: ImageStore) -> None:
        path = f"{CONTAINER}/cells/1.png"
        assert await store.upload(path, b"first", "image/png")
        assert not await store.upload(path, b"first", "image/png")
        assert await store.upload(path, b"second", "image/png")
        assert await store.upload(path, b"second", "image/jpeg")
        assert not await store.upload(path, b"second", "image/jpeg", likely_new=True)
        assert await store.upload(path, b"third", "image/jpeg", likely_new=True)
        assert await store.upload(f"{path}-other", b"third", "image/jpeg", likely_new=True)
        assert await store.download(path) == b"third"

    with_store(settings, use)


@pytest.mark.parametrize("name", ["plain.jpg", "with space.jpg", "100%.jpg", "a#b?c=d&e+f.jpg", "grün/größe 日本.jpg"])
def test_any_name_is_found_by_path_and_by_address(settings: BlobSettings, name: str) -> None:
    async def use(store: ImageStore) -> None:
        path = f"{CONTAINER}/{name}"
        await store.upload(path, name.encode(), "image/jpeg")
        url = store._service.get_blob_client(CONTAINER, name).url
        assert await store.download(path) == await store.download(url) == name.encode()

    with_store(settings, use)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("{endpoint}/none/1.png", "missing"),
        ("image-store-test/none.png", "missing"),
        ("https://elsewhere.example/image-store-test/1.png", "not allowed host"),
        ("{endpoint}.elsewhere.example/image-store-test/1.png", "not allowed account"),
        ("http://user@{host}/devstoreaccount1/image-store-test/1.png", "not allowed host"),
        ("https://{host}/devstoreaccount1/image-store-test/1.png", "not allowed host"),
        ("{endpoint}/../other/image-store-test/1.png", "address names no blob"),
        ("{endpoint}/image-store-test/%2e%2e/%2e%2e/x", "address names no blob"),
        ("{endpoint}/image-store-test/1.png?sv=1&sig=secret", "address carries a query"),
        ("image-store-test", "address names no blob"),
        ("", "address names no blob"),
    ],
)
def test_what_cannot_be_had_says_why(settings: BlobSettings, uri: str, reason: str) -> None:
    endpoint = settings.endpoint.rstrip("/")
    host = endpoint.split("/")[2]
    assert reason_for(settings, uri.format(endpoint=endpoint, host=host)) == reason


def test_a_signature_in_an_address_is_not_shown(settings: BlobSettings) -> None:
    with pytest.raises(ImageError) as caught:
        with_store(settings, lambda store: store.download(f"{settings.endpoint}/photos/1.png?sig=secret"))
    assert "secret" not in str(caught.value)


def test_a_large_blob_is_refused(settings: BlobSettings) -> None:
    with_store(settings, lambda store: store.upload(f"{CONTAINER}/large", bytes(1001), "image/png"))
    assert with_store(settings, lambda store: store.download(f"{CONTAINER}/large"), max_bytes=1001) == bytes(1001)
    assert reason_for(settings, f"{CONTAINER}/large", max_bytes=1000) == "too large (bytes)"


def test_broken_connections_are_tried_again(settings: BlobSettings) -> None:
    with gate(settings.endpoint) as (broken, url):

        async def use(store: ImageStore) -> bytes:
            await store.upload(f"{CONTAINER}/again", b"content", "image/png")
            broken.break_next = 2
            return await store.download(f"{CONTAINER}/again")

        assert with_store(replace(settings, endpoint=url), use) == b"content"
        assert broken.break_next == 0


def test_a_network_that_stays_broken_is_told(settings: BlobSettings) -> None:
    with gate(settings.endpoint) as (broken, url):

        async def use(store: ImageStore) -> bytes:
            broken.break_next = 1000
            return await store.download(f"{CONTAINER}/again")

        with pytest.raises(ImageError) as caught:
            with_store(replace(settings, endpoint=url), use, tries=2)
    assert caught.value.reason == "network: connection broke, tried 2 times"
    assert caught.value.transient


def test_a_key_that_does_not_fit_stops_everything(settings: BlobSettings) -> None:
    wrong = replace(settings, key=base64.b64encode(bytes(64)).decode())

    async def use() -> bytes:
        async with ImageStore(wrong) as store:
            return await store.download(f"{CONTAINER}/1.png")

    with pytest.raises(SparsightError, match="HTTP 403") as caught:
        asyncio.run(use())
    assert not isinstance(caught.value, ImageError)
    assert "Storage Blob Data Reader" in caught.value.hint


def test_connections_stay_within_their_number(settings: BlobSettings) -> None:
    with gate(settings.endpoint) as (counted, url):

        async def use(store: ImageStore) -> None:
            await store.upload(f"{CONTAINER}/one", b"content", "image/png")
            counted.opened = counted.most = 0
            await asyncio.gather(*(store.download(f"{CONTAINER}/one") for _ in range(50)))

        with_store(replace(settings, endpoint=url), use, connections=4)
        assert counted.opened == 4
