"""The storage account of the loopback workspace: containers in the real Azurite, reached by SAS as on Azure."""

import contextlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContainerClient, ContainerSasPermissions, generate_container_sas

from sparsight.stores.settings import AZURITE_API_VERSION, BlobSettings

BLOBSTORE = "azureml-blobstore"
ARTIFACTS = "azureml"


class WorkspaceStorage:
    """Containers of one test's own, for code, outputs and logs.

    Args:
        environment: how steps find Azurite: SPARSIGHT_BLOB_ENDPOINT and its key.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.settings = BlobSettings.from_environment(environment)
        key = AzureNamedKeyCredential(self.settings.account, str(self.settings.key))
        self.service = BlobServiceClient(self.settings.endpoint, credential=key, api_version=AZURITE_API_VERSION)
        self.own = uuid.uuid4().hex[:8]

    def close(self) -> None:
        self.service.close()

    def container(self, name: str) -> ContainerClient:
        """A container of this workspace, made where it isn't there yet."""
        client = self.service.get_container_client(f"{name}-{self.own}")
        with contextlib.suppress(ResourceExistsError):
            client.create_container()
        return client

    def sas(self, container: ContainerClient) -> str:
        return generate_container_sas(
            self.settings.account,
            container.container_name,
            account_key=self.settings.key,
            permission=ContainerSasPermissions(read=True, write=True, list=True, create=True, add=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )

    def upload(self, container: str, folder: Path, prefix: str) -> None:
        """Put a file, or a folder's files, under a prefix."""
        client = self.container(container)
        files = [folder] if folder.is_file() else [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in files:
            name = path.name if folder.is_file() else path.relative_to(folder).as_posix()
            with path.open("rb") as content:
                client.upload_blob(f"{prefix}/{name}", content, overwrite=True)

    def download(self, container: ContainerClient, folder: Path) -> None:
        """Take everything in a container to a folder."""
        for name in container.list_blob_names():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(container.download_blob(name).readall())
