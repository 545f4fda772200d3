"""A secret is read by identity, and no host that isn't a key vault's is sent a token."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sparsight.errors import SparsightError
from sparsight.stores.vault import read_secret
from tests.cloud.loopback import Credential, LoopbackTransport

ADDRESS = "https://cells.vault.azure.net/secrets/label-studio-token"


class Vault(BaseHTTPRequestHandler):
    """Answers as a key vault does; keeps what it was asked."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"].partition(" ")[0]))
        status, content = self.server.answers.pop(0)
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def vault() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Vault) as server:
        server.asked, server.answers = [], []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def read(vault: Any, *answers: tuple[int, Any]) -> str:
    vault.answers.extend(answers)
    transport = LoopbackTransport(f"http://127.0.0.1:{vault.server_port}")
    return read_secret(ADDRESS, identity=Credential(), transport=transport)


def test_a_secret_is_read(vault: Any) -> None:
    assert read(vault, (200, {"value": "the token", "id": f"{ADDRESS}/1"})) == "the token"
    assert vault.asked == [("/secrets/label-studio-token?api-version=7.4", "Bearer")]


def test_a_busy_vault_is_asked_again(vault: Any) -> None:
    assert read(vault, (503, {}), (200, {"value": "the token"})) == "the token"


@pytest.mark.parametrize(("status", "code"), [(403, "Forbidden"), (404, "SecretNotFound")])
def test_a_refusal_is_told_with_the_role_it_takes(vault: Any, status: int, code: str) -> None:
    with pytest.raises(SparsightError, match=f"can't be read: HTTP {status} {code}") as caught:
        read(vault, (status, {"error": {"code": code, "message": "..."}}))
    assert "Key Vault Secrets User" in caught.value.hint


@pytest.mark.parametrize(
    "address",
    [
        "the-token-itself",
        "http://cells.vault.azure.net/secrets/token",
        "https://cells.vault.azure.net.example/secrets/token",
        "https://vault.azure.net/secrets/token",
        "https://somebody@cells.vault.azure.net/secrets/token",
        "https://evil.example/cells.vault.azure.net/secrets/token",
        "https://cells.vault.azure.net/keys/token",
        "https://cells.vault.azure.net/secrets/token?api-version=1",
    ],
)
def test_only_a_vaults_secret_is_asked_for_and_what_was_given_is_not_shown(address: str) -> None:
    identity = Credential()
    with pytest.raises(SparsightError, match="is not the address of a secret") as caught:
        read_secret(address, identity=identity)
    assert identity.asked == 0
    assert address not in str(caught.value)
