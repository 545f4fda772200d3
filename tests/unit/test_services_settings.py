"""Addresses and keys of the stores, as read from the environment."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from sparsight.errors import SparsightError
from sparsight.stores.settings import (
    BlobSettings,
    CosmosSettings,
    LabelStudioSettings,
    blob_service,
    credential,
    is_loopback,
)

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
BLOB = {"SPARSIGHT_BLOB_ENDPOINT": "http://127.0.0.1:10000/devstoreaccount1", "SPARSIGHT_BLOB_KEY": KEY}
COSMOS = {"SPARSIGHT_COSMOS_ENDPOINT": "https://127.0.0.1:8081/", "SPARSIGHT_COSMOS_KEY": KEY}


def test_emulators_are_opened_with_their_key() -> None:
    blob, cosmos = BlobSettings.from_environment(BLOB), CosmosSettings.from_environment(COSMOS)
    assert (blob.account, blob.key) == ("devstoreaccount1", KEY)
    assert (cosmos.database, cosmos.key) == ("sparsight", KEY)


def test_an_azure_account_needs_no_key() -> None:
    settings = BlobSettings.from_environment({"SPARSIGHT_BLOB_ENDPOINT": "https://photos.blob.core.windows.net"})
    assert (settings.account, settings.key) == ("photos", None)
    named = {"SPARSIGHT_COSMOS_ENDPOINT": "https://x.documents.azure.com/", "SPARSIGHT_COSMOS_DATABASE": "other"}
    assert CosmosSettings.from_environment(named).database == "other"


@pytest.mark.parametrize("kind", [BlobSettings, CosmosSettings])
def test_missing_address_names_the_variable_and_the_command(kind: type[BlobSettings] | type[CosmosSettings]) -> None:
    with pytest.raises(SparsightError, match=r"SPARSIGHT_\w+_ENDPOINT is not set") as caught:
        kind.from_environment({})
    assert "python execute.py services up" in str(caught.value)


@pytest.mark.parametrize("kind", [BlobSettings, CosmosSettings])
def test_a_key_for_an_account_elsewhere_is_refused_and_not_shown(
    kind: type[BlobSettings] | type[CosmosSettings],
) -> None:
    with pytest.raises(SparsightError, match="keys are for emulators on this machine") as caught:
        kind(endpoint="https://photos.example.com", key=KEY)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["https://127.0.0.1.example.com/", "https://user@localhost.example.com/"])
def test_an_address_that_only_looks_local_is_not(endpoint: str) -> None:
    assert not is_loopback(endpoint)
    with pytest.raises(SparsightError, match="keys are for emulators"):
        CosmosSettings(endpoint=endpoint, key=KEY)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("photos.blob.core.windows.net", "expected an address such as"),
        ("file:///etc/passwd", "expected an address such as"),
        ("http://photos.blob.core.windows.net", "by https only"),
        ("https://photos.blob.core.windows.net/?sv=1&sig=c2VjcmV0", "more than an address"),
        ("https://somebody:secret@photos.blob.core.windows.net", "more than an address"),
    ],
)
def test_a_wrong_address_is_told(endpoint: str, message: str) -> None:
    with pytest.raises(SparsightError, match=message) as refused:
        BlobSettings(endpoint=endpoint)
    assert "secret" not in str(refused.value)
    assert "sig=" not in str(refused.value)


TOKEN = "0123456789abcdef"
SECRET = "https://cells.vault.azure.net/secrets/label-studio-token"


def test_label_studio_takes_a_token_or_where_one_is_kept() -> None:
    variables = {"SPARSIGHT_LABEL_STUDIO_URL": "https://labels.example.com"}
    with_token = LabelStudioSettings.from_environment({**variables, "SPARSIGHT_LABEL_STUDIO_TOKEN": TOKEN})
    assert (with_token.token, with_token.token_secret) == (TOKEN, None)
    assert TOKEN not in repr(with_token)
    with_secret = LabelStudioSettings.from_environment({**variables, "SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET": SECRET})
    assert (with_secret.token, with_secret.token_secret) == (None, SECRET)
    with pytest.raises(SparsightError, match="Neither SPARSIGHT_LABEL_STUDIO_TOKEN nor"):
        LabelStudioSettings.from_environment(variables)
    with pytest.raises(SparsightError, match="SPARSIGHT_LABEL_STUDIO_URL is not set") as caught:
        LabelStudioSettings.from_environment({"SPARSIGHT_LABEL_STUDIO_TOKEN": TOKEN})
    assert "services up --with label-studio" in caught.value.hint


@pytest.mark.parametrize("more", [{"token": TOKEN}, {"token_secret": SECRET}])
def test_label_studios_token_is_sent_in_clear_text_to_this_machine_only(more: dict[str, str]) -> None:
    assert LabelStudioSettings(url="http://localhost:8080", **more).url
    for url in ("http://labels.example.com", "http://127.0.0.1.example.com", "labels.example.com"):
        with pytest.raises(SparsightError, match="SPARSIGHT_LABEL_STUDIO_URL") as caught:
            LabelStudioSettings(url=url, **more)
        assert TOKEN not in str(caught.value)


def test_keys_are_not_shown() -> None:
    assert KEY not in repr(BlobSettings.from_environment(BLOB)) + repr(CosmosSettings.from_environment(COSMOS))


def test_the_blob_client_opens_with_the_emulators_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BLOB.items():
        monkeypatch.setenv(name, value)

    async def addresses() -> tuple[str, str]:
        async with blob_service() as blob:
            return blob.url, str(blob.account_name)

    assert asyncio.run(addresses()) == ("http://127.0.0.1:10000/devstoreaccount1/", "devstoreaccount1")


class TokenEndpoint(BaseHTTPRequestHandler):
    """Gives tokens as the nodes of an Azure ML cluster do, and keeps whose were asked for."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append((self.headers["secret"], query["resource"], query.get("clientid")))
        token = {"access_token": "token", "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
        body = json.dumps({**token, "resource": query["resource"][0]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, list[str], list[str] | None]]]:
    """A node of an Azure ML cluster, as far as signing in goes; gives what its token endpoint was asked."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_"))]:
        monkeypatch.delenv(name)
    with ThreadingHTTPServer(("127.0.0.1", 0), TokenEndpoint) as server:
        server.asked = []
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MSI_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
        monkeypatch.setenv("MSI_SECRET", "secret")
        yield server.asked
        server.shutdown()


async def sign_in() -> str:
    async with AsyncExitStack() as stack:
        signed_in = await credential(stack)
        return (await signed_in.get_token("https://storage.azure.com/.default")).token


@pytest.mark.parametrize(
    ("variables", "client_id"),
    [
        ({"DEFAULT_IDENTITY_CLIENT_ID": "of-the-cluster"}, ["of-the-cluster"]),
        ({"DEFAULT_IDENTITY_CLIENT_ID": "of-the-cluster", "AZURE_CLIENT_ID": "chosen"}, ["chosen"]),
        ({"DEFAULT_IDENTITY_CLIENT_ID": ""}, None),
        ({}, None),
    ],
)
def test_a_step_signs_in_as_the_identity_of_its_cluster(cluster, monkeypatch, variables, client_id) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert asyncio.run(sign_in()) == "token"
    assert cluster == [("secret", ["https://storage.azure.com"], client_id)]
