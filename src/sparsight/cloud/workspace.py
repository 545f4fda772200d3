"""Which Azure ML workspace to speak to, and the client that does."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sparsight.errors import SparsightError
from sparsight.stores.settings import BlobSettings, CosmosSettings, check_address
from sparsight.stores.vault import check_secret_address

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_FIELDS = {
    "subscription": ("AZURE_SUBSCRIPTION_ID", "subscription_id"),
    "resource_group": ("AZURE_RESOURCE_GROUP", "resource_group"),
    "name": ("AZUREML_WORKSPACE_NAME", "workspace_name"),
}
STORES = {
    "SPARSIGHT_COSMOS_ENDPOINT": "cosmos_endpoint",
    "SPARSIGHT_COSMOS_DATABASE": "cosmos_database",
    "SPARSIGHT_BLOB_ENDPOINT": "blob_endpoint",
    "SPARSIGHT_LABEL_STUDIO_URL": "label_studio_url",
    "SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET": "label_studio_token_secret",
    "SPARSIGHT_TUNING_STORAGE_SECRET": "tuning_storage_secret",
}
"""What tells a step where photos, metadata, labels and studies are: environment variable -> key of config.json."""
_HINT = (
    "Give --subscription, --resource-group and --workspace, set {variables}, or write config.json into this folder: "
    "docs/azure.md says how."
)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """An Azure ML workspace.

    Args:
        subscription: the subscription's id.
        resource_group: the group it is in.
        name: its name.
        stores: variables by which steps find photos, metadata and labels; addresses only, never a key or token.
    """

    subscription: str
    resource_group: str
    name: str
    stores: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"workspace {self.name} (resource group {self.resource_group})"


def find_workspace(
    *,
    subscription: str | None = None,
    resource_group: str | None = None,
    name: str | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Workspace:
    """Find the workspace: what is given comes first, then the environment, then config.json.

    Args:
        subscription: the subscription's id.
        resource_group: the resource group's name.
        name: the workspace's name.
        folder: where the search for config.json begins; it goes on in the folders above, and in their `.azureml`.
        environment: AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZUREML_WORKSPACE_NAME, and the addresses of the
            stores (SPARSIGHT_COSMOS_ENDPOINT, SPARSIGHT_COSMOS_DATABASE, SPARSIGHT_BLOB_ENDPOINT,
            SPARSIGHT_LABEL_STUDIO_URL, SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET, SPARSIGHT_TUNING_STORAGE_SECRET).

    Raises:
        SparsightError: something is missing, or config.json can't be read.
    """
    given = {"subscription": subscription, "resource_group": resource_group, "name": name}
    config = _read_config(folder or Path.cwd())
    found = {}
    for key, (variable, entry) in _FIELDS.items():
        found[key] = given[key] or environment.get(variable, "").strip() or str(config.get(entry, "")).strip()
    missing = [key.replace("_", " ") for key, value in found.items() if not value]
    if missing:
        variables = ", ".join(variable for variable, _ in _FIELDS.values())
        raise SparsightError(
            f"There is no telling which workspace is meant: its {', '.join(missing)} isn't said.",
            hint=_HINT.format(variables=variables),
        )
    stores = {
        variable: value
        for variable, entry in STORES.items()
        if (value := environment.get(variable, "").strip() or str(config.get(entry, "")).strip())
    }
    _check_stores(stores)
    return Workspace(**found, stores=stores)


def _check_stores(stores: Mapping[str, str]) -> None:
    """Refuse what holds more than an address: a signature, key or token, which would go into the job."""
    if endpoint := stores.get("SPARSIGHT_BLOB_ENDPOINT"):
        BlobSettings(endpoint=endpoint)
    if endpoint := stores.get("SPARSIGHT_COSMOS_ENDPOINT"):
        CosmosSettings(endpoint=endpoint)
    if url := stores.get("SPARSIGHT_LABEL_STUDIO_URL"):
        check_address("SPARSIGHT_LABEL_STUDIO_URL", url)
    if secret := stores.get("SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET"):
        check_secret_address(secret)
    if secret := stores.get("SPARSIGHT_TUNING_STORAGE_SECRET"):
        check_secret_address(secret, "SPARSIGHT_TUNING_STORAGE_SECRET")


def _read_config(folder: Path) -> Mapping[str, object]:
    for path in _config_places(folder):
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SparsightError(f"{path} can't be read as a workspace's configuration: {error}.") from error
        if not isinstance(content, dict):
            raise SparsightError(f"{path} holds no JSON object; expected subscription_id, resource_group and so on.")
        return content
    return {}


def _config_places(folder: Path) -> Iterator[Path]:
    for place in (folder.absolute(), *folder.absolute().parents):
        yield place / "config.json"
        yield place / ".azureml" / "config.json"


def open_client(workspace: Workspace) -> "MLClient":
    """Open the workspace's client, signed in as whoever runs this: `az login`, a managed identity, a CI's identity."""
    from sparsight.stores import azureml

    return azureml.open_client(workspace.subscription, workspace.resource_group, workspace.name)
