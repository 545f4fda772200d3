"""Signed addresses of photos, without any service: what they open, for how long, and what signs them."""

import asyncio
import base64
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from azure.storage.blob import UserDelegationKey

from sparsight.errors import SparsightError
from sparsight.stores.image_urls import UrlSigner, expiry_of, make_signer
from sparsight.stores.images import ImageError
from sparsight.stores.settings import BlobSettings

EXPIRY = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = base64.b64encode(b"no key of anybody's").decode()


def delegation_key() -> UserDelegationKey:
    key = UserDelegationKey()
    key.signed_oid, key.signed_tid, key.signed_service, key.signed_version = "who", "tenant", "b", "2025-11-05"
    key.signed_start, key.signed_expiry, key.value = "2030-01-01T00:00:00Z", "2030-01-02T03:04:05Z", KEY
    return key


def test_on_azure_an_identitys_key_signs_for_one_photo_to_be_read_by_https() -> None:
    settings = BlobSettings(endpoint="https://photos.blob.core.windows.net/")
    signer = UrlSigner(settings=settings, expiry=EXPIRY, key=delegation_key())
    url = signer.url("https://photos.blob.core.windows.net/cells/gr%C3%BCn/1.png")
    parts, query = urlsplit(url), parse_qs(urlsplit(url).query)
    assert (parts.netloc, unquote(parts.path)) == ("photos.blob.core.windows.net", "/cells/grün/1.png")
    told = {name: query[name] for name in ("sr", "sp", "spr", "se", "skoid", "ske")}
    assert told == {
        "sr": ["b"],
        "sp": ["r"],
        "spr": ["https"],
        "se": ["2030-01-02T03:04:05Z"],
        "skoid": ["who"],
        "ske": ["2030-01-02T03:04:05Z"],
    }
    assert expiry_of(url) == EXPIRY
    assert signer.url("cells/grün/1.png") == url
    assert signer.url("cells/grün/2.png").partition("sig=")[2] != url.partition("sig=")[2]


def test_photos_elsewhere_are_not_signed_for() -> None:
    signer = UrlSigner(settings=BlobSettings(endpoint="http://127.0.0.1:1/account", key=KEY), expiry=EXPIRY)
    for uri in ("https://elsewhere.example/cells/1.png", "http://127.0.0.1:1/other/cells/1.png", "cells"):
        with pytest.raises(ImageError):
            signer.url(uri)


@pytest.mark.parametrize("hours", [0, -1, 168.5])
def test_no_longer_than_azure_signs_for(hours: float) -> None:
    with pytest.raises(SparsightError, match="up to 168 hours"):
        asyncio.run(make_signer(hours, BlobSettings(endpoint="http://127.0.0.1:1/account", key=KEY)))


@pytest.mark.parametrize("url", ["", "https://photos.example/1.png", "https://photos.example/1.png?se=soon"])
def test_what_is_not_signed_has_no_expiry(url: str) -> None:
    assert expiry_of(url) is None
