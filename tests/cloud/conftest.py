"""A workspace on loopback for each test, and the command line pointed at it.

Fixtures:
    workspace_server: the loopback workspace, its storage in this session's Azurite.
    signed_in: `open_client` answers with a client that is signed in and sends to the loopback workspace.
    config: a folder with the workspace's config.json, the current one during the test.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden_messages import Golden, golden_messages
from loopback import Credential, open_client, storage_address
from toy_project import Project
from workspace_server import GROUP, NAME, SUBSCRIPTION, WorkspaceServer
from workspace_storage import WorkspaceStorage

from sparsight.cloud import workspace
from sparsight.local.services import Services, environment


@pytest.fixture
def workspace_server(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkspaceServer]:
    storage = WorkspaceStorage(environment(services))
    monkeypatch.setitem(*storage_address(storage.settings.endpoint))
    with WorkspaceServer(tmp_path / "workspace", storage, environment(services)) as server:
        yield server
    storage.close()


@pytest.fixture
def credential() -> Credential:
    return Credential()


@pytest.fixture
def signed_in(workspace_server: WorkspaceServer, credential: Credential, monkeypatch: pytest.MonkeyPatch) -> Credential:
    def client(where: workspace.Workspace) -> Any:
        return open_client(where, workspace_server.url, credential)

    monkeypatch.setattr(workspace, "open_client", client)
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


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a message with the golden one of a name; with --update-golden, make it that."""
    return golden_messages(request)
