"""Where the stores are and how to sign in: addresses from the environment, keys for local emulators only."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.cosmos.aio import CosmosClient
    from azure.identity.aio import DefaultAzureCredential
    from azure.storage.blob.aio import BlobServiceClient

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
AZURITE_API_VERSION = "2025-11-05"  # the newest that Azurite 3.35 speaks
_SERVICES = (
    "Start the local services with `python execute.py services up`, or set {variable} to your account's address."
)
_LABEL_STUDIO = (
    "Start Label Studio with `python execute.py services up --with label-studio`, or set {variable} to your server's "
    "address."
)


def is_loopback(endpoint: str) -> bool:
    """Tell whether an address stays on this machine."""
    return urlsplit(endpoint).hostname in LOOPBACK


@dataclass(frozen=True, kw_only=True)
class BlobSettings:
    """The Blob Storage account that holds the images.

    Args:
        endpoint: the account's Blob address, such as `https://name.blob.core.windows.net`.
        key: account key; for emulators on this machine only. Never shown.

    Raises:
        SparsightError: the address is not one, sends a token in clear text, or a key goes with a remote account.
    """

    endpoint: str
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check(self.endpoint, self.key, "SPARSIGHT_BLOB")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "BlobSettings":
        """Read SPARSIGHT_BLOB_ENDPOINT and, for an emulator, SPARSIGHT_BLOB_KEY."""
        endpoint = _required(environment, "SPARSIGHT_BLOB_ENDPOINT", "images in Blob Storage")
        return cls(endpoint=endpoint, key=environment.get("SPARSIGHT_BLOB_KEY") or None)

    @property
    def account(self) -> str:
        """The account's name: the first label of the host, for emulators the first folder of the path."""
        parts = urlsplit(self.endpoint)
        return parts.path.strip("/") if is_loopback(self.endpoint) else (parts.hostname or "").split(".")[0]


@dataclass(frozen=True, kw_only=True)
class CosmosSettings:
    """The Cosmos DB account and database that hold the metadata.

    Args:
        endpoint: the account's address, such as `https://name.documents.azure.com:443/`.
        database: the database's name.
        key: account key; for emulators on this machine only. Never shown.

    Raises:
        SparsightError: the address is not one, sends a token in clear text, or a key goes with a remote account.
    """

    endpoint: str
    database: str = "sparsight"
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check(self.endpoint, self.key, "SPARSIGHT_COSMOS")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "CosmosSettings":
        """Read SPARSIGHT_COSMOS_ENDPOINT, SPARSIGHT_COSMOS_DATABASE and, for an emulator, SPARSIGHT_COSMOS_KEY."""
        endpoint = _required(environment, "SPARSIGHT_COSMOS_ENDPOINT", "metadata in Cosmos DB")
        database = environment.get("SPARSIGHT_COSMOS_DATABASE") or "sparsight"
        return cls(endpoint=endpoint, database=database, key=environment.get("SPARSIGHT_COSMOS_KEY") or None)


@dataclass(frozen=True, kw_only=True)
class LabelStudioSettings:
    """The Label Studio server in which people label photos.

    Args:
        url: the server's address, such as `https://labels.example.com`.
        token: a personal access token or, where the server takes them, a legacy token. Never shown.
        token_secret: address of the Key Vault secret that holds the token, for where there is an identity to read it.

    Raises:
        SparsightError: the address is not one or would send the token in clear text, or there is no token.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    token_secret: str | None = None

    def __post_init__(self) -> None:
        check_address("SPARSIGHT_LABEL_STUDIO_URL", self.url)
        if not self.token and not self.token_secret:
            raise SparsightError(
                f"Neither SPARSIGHT_LABEL_STUDIO_TOKEN nor SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET is set: {self.url} lets "
                "nobody in without a token.",
                hint="Make a personal access token there (Account & Settings) and set the first of them.",
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "LabelStudioSettings":
        """Read SPARSIGHT_LABEL_STUDIO_URL, and SPARSIGHT_LABEL_STUDIO_TOKEN or SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET."""
        variable = "SPARSIGHT_LABEL_STUDIO_URL"
        url = _required(environment, variable, "tasks in Label Studio", _LABEL_STUDIO)
        token, secret = (environment.get(f"SPARSIGHT_LABEL_STUDIO_{name}") for name in ("TOKEN", "TOKEN_SECRET"))
        return cls(url=url, token=token or None, token_secret=secret or None)


@asynccontextmanager
async def blob_service(settings: BlobSettings | None = None) -> "AsyncIterator[BlobServiceClient]":
    """Open the asynchronous Blob client; it and its credential are closed with the block.

    Args:
        settings: the account; by default the environment's.

    Example:
        >>> async with blob_service() as service:
        ...     container = service.get_container_client("photos")
    """
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob.aio import BlobServiceClient

    chosen = settings or BlobSettings.from_environment()
    async with AsyncExitStack() as stack:
        if chosen.key:
            key = AzureNamedKeyCredential(chosen.account, chosen.key)
            client = BlobServiceClient(chosen.endpoint, credential=key, api_version=AZURITE_API_VERSION)
        else:
            client = BlobServiceClient(chosen.endpoint, credential=await credential(stack))
        yield await stack.enter_async_context(client)


@asynccontextmanager
async def cosmos_client(settings: CosmosSettings | None = None) -> "AsyncIterator[CosmosClient]":
    """Open the asynchronous Cosmos client; it and its credential are closed with the block.

    Args:
        settings: the account; by default the environment's.
    """
    from azure.cosmos.aio import CosmosClient

    chosen = settings or CosmosSettings.from_environment()
    async with AsyncExitStack() as stack:
        # The SDK itself leaves out certificate verification for addresses of this machine, and for no others.
        client = CosmosClient(chosen.endpoint, credential=chosen.key or await credential(stack))
        # Entering asks the account for its regions; where that fails the client itself leaves its connections open.
        stack.push_async_callback(client.close)
        before = asyncio.all_tasks()
        await client.__aenter__()
        # The client looks at its regions in the background. Closed in the midst of that, it loses a connection.
        stack.push_async_callback(_finished, asyncio.all_tasks() - before)
        yield client


async def _finished(tasks: "set[asyncio.Task[Any]]") -> None:
    """Wait a moment for the Cosmos client's own tasks among these."""
    own = [task for task in tasks if "_GlobalEndpointManager" in getattr(task.get_coro(), "__qualname__", "")]
    if own:
        await asyncio.wait(own, timeout=2)


async def credential(stack: AsyncExitStack) -> "DefaultAzureCredential":
    """Sign in as whoever runs this: managed identity in Azure ML, `az login` on a laptop. Closed with `stack`."""
    from azure.identity.aio import DefaultAzureCredential

    return await stack.enter_async_context(DefaultAzureCredential(**_cluster_identity(os.environ)))


def _cluster_identity(environment: Mapping[str, str]) -> dict[str, str]:
    """Name the identity that an Azure ML cluster was given; without its name the SDK asks for one of the machine's own.

    AZURE_CLIENT_ID, which the SDK reads by itself, comes first.
    """
    client_id = environment.get("DEFAULT_IDENTITY_CLIENT_ID", "").strip()
    return {"managed_identity_client_id": client_id} if client_id and not environment.get("AZURE_CLIENT_ID") else {}


def signed_in(environment: Mapping[str, str] = os.environ) -> "TokenCredential":
    """Sign in without asynchrony: in a job as its user, where it runs as one, else as `credential` does."""
    if environment.get("OBO_ENDPOINT"):
        from azure.ai.ml.identity import AzureMLOnBehalfOfCredential

        user: TokenCredential = AzureMLOnBehalfOfCredential()
        return user
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(**_cluster_identity(environment))


def _required(environment: Mapping[str, str], variable: str, what: str, hint: str = _SERVICES) -> str:
    if value := environment.get(variable, "").strip():
        return value
    raise SparsightError(
        f"The environment variable {variable} is not set, so there is no telling where to find the {what}.",
        hint=hint.format(variable=variable),
    )


def _check(endpoint: str, key: str | None, prefix: str) -> None:
    if key and urlsplit(endpoint).hostname and not is_loopback(endpoint):
        raise SparsightError(
            f"{prefix}_KEY is set, but {prefix}_ENDPOINT is {urlsplit(endpoint).hostname}: keys are for emulators on "
            "this machine.",
            hint=f"Unset {prefix}_KEY and sign in with `az login` or a managed identity.",
        )
    check_address(f"{prefix}_ENDPOINT", endpoint)


def check_address(variable: str, address: str) -> None:
    """Check the address of a server, as a variable names it.

    Raises:
        SparsightError: it is none, or would send in clear text what proves who we are, or holds more than an address.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SparsightError(f"{variable} is {address!r}; expected an address such as https://host/.")
    if is_loopback(address):
        return
    if parts.query or parts.fragment or parts.username or parts.password:
        raise SparsightError(
            f"{variable} holds more than an address: https://{parts.hostname}, then a signature, key or name.",
            hint="Give the address alone and sign in with `az login` or a managed identity.",
        )
    if parts.scheme != "https":
        raise SparsightError(f"{variable} is {address!r}: a server elsewhere is reached by https only.")
