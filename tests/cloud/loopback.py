"""A client of the loopback workspace: MLClient itself, signed in as somebody, every message for Azure sent there."""

import copy
import time
from typing import Any
from urllib.parse import urlsplit

import jwt
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport

from sparsight.cloud.workspace import Workspace
from sparsight.stores.azureml import quiet


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


def open_client(workspace: Workspace, url: str, credential: Credential) -> Any:
    """Open the workspace's client as `sparsight.cloud.workspace.open_client` does, but for the credential."""
    with quiet():
        from azure.ai.ml import MLClient

        return MLClient(
            credential,
            workspace.subscription,
            workspace.resource_group,
            workspace.name,
            transport=LoopbackTransport(url),
            show_progress=False,
            retry_total=1,
            retry_backoff_factor=0.01,
        )


def storage_address(endpoint: str) -> tuple[dict[str, str], str, str]:
    """Where the SDK keeps how to build the address of a storage account, whatever the transport: to be set to Azurite.

    Returns:
        The mapping, its key, and the value that it must get.
    """
    with quiet():
        import azure.ai.ml.constants._common as constants

    return constants.STORAGE_ACCOUNT_URLS, "AzureBlob", endpoint.rstrip("/")
