"""A workspace on loopback for each test, and the command line pointed at it.

Fixtures:
    workspace_server: the loopback workspace, its storage in this session's Azurite.
    signed_in: `open_client` answers with a client that is signed in and sends to the loopback workspace.
    config: a folder with the workspace's config.json, the current one during the test.
"""

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from toy_project import Project
from workspace_server import GROUP, NAME, SUBSCRIPTION, WorkspaceServer
from workspace_storage import WorkspaceStorage

from sparsight.cloud import workspace
from sparsight.local.sdk import quiet
from sparsight.local.services import Services, environment


class LoopbackTransport(RequestsTransport):
    """Sends everything that is meant for Azure to the loopback workspace."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def send(self, request: Any, **options: Any) -> Any:
        address = urlsplit(request.url)
        if address.hostname != "127.0.0.1":
            request = copy.copy(request)  # a retry of it must find it as it was
            request.url = self.url + address.path + (f"?{address.query}" if address.query else "")
        return super().send(request, **options)


class Credential:
    """Somebody who is signed in, for as long as `lasts` seconds; every token says for whom it is."""

    def __init__(self, lasts: float = 3600) -> None:
        self.lasts = lasts
        self.asked = 0

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked += 1
        ends = time.time() + self.lasts
        claims = {"aud": scopes[0].removesuffix("/.default"), "tid": "tenant", "oid": "somebody", "exp": ends}
        return AccessToken(jwt.encode(claims, "nobody checks this signature, ever"), int(time.time() + 3600))


@pytest.fixture
def workspace_server(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkspaceServer]:
    with quiet():
        import azure.ai.ml.constants._common as constants

    storage = WorkspaceStorage(environment(services))
    # The SDK builds the addresses of storage accounts from this, whatever the transport.
    monkeypatch.setitem(constants.STORAGE_ACCOUNT_URLS, "AzureBlob", storage.settings.endpoint.rstrip("/"))
    with WorkspaceServer(tmp_path / "workspace", storage, environment(services)) as server:
        yield server
    storage.close()


@pytest.fixture
def credential() -> Credential:
    return Credential()


@pytest.fixture
def signed_in(workspace_server: WorkspaceServer, credential: Credential, monkeypatch: pytest.MonkeyPatch) -> Credential:
    def open_client(where: workspace.Workspace) -> Any:
        with quiet():
            from azure.ai.ml import MLClient

            return MLClient(
                credential,
                where.subscription,
                where.resource_group,
                where.name,
                transport=LoopbackTransport(workspace_server.url),
                show_progress=False,
                retry_total=1,
                retry_backoff_factor=0.01,
            )

    monkeypatch.setattr(workspace, "open_client", open_client)
    return credential


@pytest.fixture
def config(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stores = environment(services)
    content = {
        "subscription_id": SUBSCRIPTION,
        "resource_group": GROUP,
        "workspace_name": NAME,
        "cosmos_endpoint": stores["SPARSIGHT_COSMOS_ENDPOINT"],
        "blob_endpoint": stores["SPARSIGHT_BLOB_ENDPOINT"],
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sparsight(capsys: pytest.CaptureFixture[str]) -> Project:
    """The command line over this repository's own pipelines."""
    return Project(Path(__file__).parents[2], capsys, toys=False)


@pytest.fixture
def toys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    """The command line over the toy pipelines."""
    return Project(tmp_path / "project", capsys)
