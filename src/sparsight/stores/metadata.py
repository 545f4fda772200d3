"""Photo metadata in Cosmos DB: databases, containers, the label filter, queries and writes, all asynchronous."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from sparsight.errors import SparsightError
from sparsight.stores.settings import CosmosSettings, cosmos_client, is_loopback

FILTER_NAME = "filterDocumentsByLabels"
FILTER_BODY = Path(__file__).with_name("filter_documents_by_labels.js").read_text(encoding="utf-8")

_LOCAL_PAGE = 20_000

Document = dict[str, Any]
ItemT = TypeVar("ItemT")


class MetadataStore:
    """One database of a Cosmos DB account; its containers hold one document per photo, partitioned by `/id`.

    Throttled requests (429) and lost connections are tried again by the SDK.

    Args:
        client: an open client of the account.
        endpoint: URL of the account, for messages.
        database: name of the database.

    Example:
        async with open_metadata() as store:
            rows = await store.query("photos", "SELECT c.id FROM c WHERE c.has_review = @yes", {"@yes": True})
    """

    def __init__(self, client: CosmosClient, endpoint: str, database: str) -> None:
        self.endpoint, self.database = endpoint, database
        self._client = client

    @property
    def _database(self) -> DatabaseProxy:
        return self._client.get_database_client(self.database)

    def _container(self, name: str) -> ContainerProxy:
        return self._database.get_container_client(name)

    async def containers(self) -> list[str]:
        """Names of the database's containers, sorted.

        Raises:
            SparsightError: there is no such database, or the account can't be reached.
        """
        async with self._explained():
            try:
                return sorted([str(container["id"]) async for container in self._database.list_containers()])
            except CosmosResourceNotFoundError:
                known = sorted([str(database["id"]) async for database in self._client.list_databases()])
        raise SparsightError(
            f"{self.endpoint} has no database {self.database!r}; it has {_listed(known)}.",
            hint="Load photos first (python execute.py data load elpv), or set SPARSIGHT_COSMOS_DATABASE.",
        )

    async def require_containers(self, names: Sequence[str]) -> None:
        """Check that containers exist.

        Raises:
            SparsightError: the database or one of the containers is missing; the message lists those that exist.
        """
        known = await self.containers()
        for name in names:
            if name not in known:
                raise SparsightError(
                    f"Database {self.database!r} has no container {name!r}; it has {_listed(known)}.",
                    hint="Name one of those, or load photos into it first (python execute.py data load --help).",
                )

    async def ensure_container(self, name: str) -> None:
        """Make the database and a container where they aren't there yet, and install the label filter."""
        async with self._explained():
            database = await self._client.create_database_if_not_exists(self.database)
            await database.create_container_if_not_exists(name, PartitionKey(path="/id"))
        await self.install_filter(name)

    async def install_filter(self, name: str) -> None:
        """Put this version of the user-defined function `filterDocumentsByLabels` into a container.

        Another version is replaced in one request, so that others' queries find one at any moment. Where signing in is
        by Microsoft Entra ID alone the service lets nobody change functions (403); then the deployment has put it
        there, and it is used as it is.
        """
        async with self._explained():
            try:
                await self._install_filter(name)
            except (CosmosResourceNotFoundError, CosmosResourceExistsError):
                # Somebody else installs it at this very moment.
                return
            except CosmosHttpResponseError as error:
                if error.status_code != HTTPStatus.FORBIDDEN:
                    raise

    async def _install_filter(self, name: str) -> None:
        scripts = self._container(name).scripts
        installed = [function async for function in scripts.list_user_defined_functions()]
        bodies = [function["body"] for function in installed if function["id"] == FILTER_NAME]
        if bodies == [FILTER_BODY]:
            return
        ours = {"id": FILTER_NAME, "body": FILTER_BODY}
        if bodies:
            await scripts.replace_user_defined_function(FILTER_NAME, ours)
        else:
            await scripts.create_user_defined_function(ours)

    async def query(self, name: str, text: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """Run a query over all partitions of a container.

        Args:
            name: the container.
            text: the query, without any value in it.
            parameters: values by `@name`.

        Raises:
            SparsightError: the database refuses the query, or can't be reached.
        """
        given = [{"name": key, "value": value} for key, value in (parameters or {}).items()]
        async with self._explained():
            # -1 leaves the page's size to the server. The local one then answers in one page, which matters twice:
            # each of its pages scans everything, and over several it loses documents that were written again.
            pages = self._container(name).query_items(text, parameters=given, max_item_count=-1)
            return [item async for item in pages]

    async def scan(self, name: str, fields: Sequence[str]) -> AsyncIterator[Document]:
        """Read some fields of every document of a container in one query; only a page of them is in memory at once.

        Raises:
            SparsightError: the database can't be reached.
        """
        text, size = f"SELECT {', '.join(f'c.{field}' for field in fields)} FROM c", -1  # noqa: S608 - our own names
        if is_loopback(self.endpoint):
            # The local server's own page would hold everything. Over several it finds its way by the order alone.
            text, size = f"{text} ORDER BY c.id", _LOCAL_PAGE
        async with self._explained():
            async for document in self._container(name).query_items(text, max_item_count=size):
                yield document

    async def create(self, name: str, document: Mapping[str, Any]) -> bool:
        """Write a document unless its id is taken; says whether it was written."""
        async with self._explained():
            try:
                await self._container(name).create_item(dict(document))
            except CosmosResourceExistsError:
                return False
            return True

    async def upsert(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a document, over an older one of the same id."""
        async with self._explained():
            await self._container(name).upsert_item(dict(document))

    async def set_fields(self, name: str, photo_id: str, fields: Mapping[str, Any], etag: str) -> bool:
        """Set some fields of a document, at most ten, and leave its others alone.

        Returns:
            False, and nothing is written, where the document has changed since `etag` was read, or is gone.
        """
        operations = [{"op": "set", "path": f"/{field}", "value": value} for field, value in fields.items()]
        async with self._explained():
            try:
                await self._container(name).patch_item(
                    photo_id, photo_id, operations, etag=etag, match_condition=MatchConditions.IfNotModified
                )
            except (CosmosAccessConditionFailedError, CosmosResourceNotFoundError):
                return False
            return True

    def _explained(self) -> AbstractAsyncContextManager[None]:
        return _explained(self.endpoint)


@asynccontextmanager
async def open_metadata(settings: CosmosSettings | None = None) -> AsyncIterator[MetadataStore]:
    """Open the metadata database; the client is closed with the block.

    Args:
        settings: the account and database; by default the environment's.

    Raises:
        SparsightError: the settings are no good, or the account can't be reached.
    """
    chosen = settings or CosmosSettings.from_environment()
    async with AsyncExitStack() as stack:
        async with _explained(chosen.endpoint):
            client = await stack.enter_async_context(cosmos_client(chosen))
        yield MetadataStore(client, chosen.endpoint, chosen.database)


@asynccontextmanager
async def _explained(endpoint: str) -> AsyncIterator[None]:
    """Tell trouble with the account in one message."""
    try:
        yield
    except (CosmosHttpResponseError, ClientAuthenticationError) as error:
        raise SparsightError(f"Cosmos DB at {endpoint} refuses: {_reason(error)}", hint=_advice(error)) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise SparsightError(
            f"Cosmos DB at {endpoint} doesn't answer: {_reason(error)}",
            hint="Start the local services (python execute.py services up), or check SPARSIGHT_COSMOS_ENDPOINT.",
        ) from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    status = getattr(error, "status_code", None)
    first = text.splitlines()[0] if text else type(error).__name__
    return f"HTTP {status}, {first}" if status else first


def _advice(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            "Give this identity the role 'Cosmos DB Built-in Data Reader' on the database, or 'Data Contributor' to "
            "load photos. Neither lets anybody make databases and containers: these come with the deployment."
        )
    return "Check the extra condition (where) and its parameters." if status == HTTPStatus.BAD_REQUEST else ""


async def for_all(items: Iterable[ItemT], action: Callable[[ItemT], Awaitable[None]], *, at_once: int) -> None:
    """Await `action` for each item, a bounded number at a time; the first error stops the others and is raised."""
    remaining = iter(items)

    async def work() -> None:
        for item in remaining:
            await action(item)

    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
