"""Images in Blob Storage: bytes up and down, with retries and limits, and never to a host that isn't ours."""

import asyncio
import contextlib
import hashlib
import random
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import AccountSasPermissions, ContentSettings, ResourceTypes, generate_account_sas
from yarl import URL

from sparsight.errors import SparsightError
from sparsight.stores.settings import AZURITE_API_VERSION, BlobSettings, blob_service, credential

SCOPE = "https://storage.azure.com/.default"
MAX_BYTES = 64 * 2**20
TRIES = 5
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_RENEW_SECONDS = 300.0


class ImageError(SparsightError):
    """One image that can't be had, while others may be.

    Attributes:
        reason: why, in a few words that are the same for every image with the same trouble.
        transient: trouble of the network, not of this image.
    """

    def __init__(self, uri: str, reason: str, *, transient: bool = False) -> None:
        super().__init__(f"{uri}: {reason}")
        self.reason, self.transient = reason, transient


def blob_path(uri: str, endpoint: str) -> str:
    """Reduce an image's address to `container/blob name`, unquoted.

    Args:
        uri: an absolute URL below `endpoint`, or `container/blob name` as it is, not percent-encoded.
        endpoint: URL of the storage account's Blob service.

    Raises:
        ImageError: the address leads elsewhere, carries a query, or names no blob.
    """
    path = uri
    if "://" in uri:
        found, ours = urlsplit(uri), urlsplit(endpoint)
        prefix = ours.path.rstrip("/") + "/"
        if (found.scheme, found.netloc.lower()) != (ours.scheme, ours.netloc.lower()):
            raise ImageError(_without_query(uri), "not allowed host")
        if not found.path.startswith(prefix):
            raise ImageError(_without_query(uri), "not allowed account")
        if found.query or found.fragment:
            raise ImageError(_without_query(uri), "address carries a query")
        path = unquote(found.path[len(prefix) :])
    container, _, name = path.partition("/")
    if not container or not name or {".", ".."} & set(path.split("/")):
        raise ImageError(_without_query(uri), "address names no blob")
    return path


def _without_query(uri: str) -> str:
    """Leave out what may be a signature."""
    return uri.partition("?")[0]


class ImageStore:
    """Blobs of one storage account, read and written by many tasks at once on one event loop.

    Uploads go through azure-storage-blob. Downloads are plain GETs on pooled connections, authorised by what the
    Azure SDK makes (a bearer token, or a short-lived read-only SAS for the local emulator's key): the SDK's own
    download path costs five times the processor time for each blob.

    Args:
        settings: the account; by default the environment's.
        max_bytes: largest blob taken.
        tries: how often a download is tried before it is given up.
        connections: connections held open for downloads at most.

    Example:
        >>> async with ImageStore() as store:
        ...     await store.ensure_container("photos")
        ...     await store.upload("photos/cells/1.png", content, "image/png")
        ...     content = await store.download("photos/cells/1.png")
    """

    def __init__(
        self,
        settings: BlobSettings | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        tries: int = TRIES,
        connections: int = 64,
    ) -> None:
        self.settings = settings or BlobSettings.from_environment()
        self.endpoint = self.settings.endpoint.rstrip("/")
        self.max_bytes, self.tries = max_bytes, tries
        self._connections = connections
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._headers = {"x-ms-version": AZURITE_API_VERSION}
        self._signature = ""
        self._valid_until = 0.0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            try:
                self._service = await stack.enter_async_context(blob_service(self.settings))
            except ValueError as error:
                raise SparsightError(
                    f"No way to open {self.endpoint}: {error}", hint="For an emulator, set SPARSIGHT_BLOB_KEY."
                ) from error
            self._credential = None if self.settings.key else await credential(stack)
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
                auto_decompress=False,
            )
            self._session = await stack.enter_async_context(session)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def ensure_container(self, container: str) -> None:
        """Make a container where there is none yet."""
        try:
            await self._service.create_container(container)
        except ResourceExistsError:
            return

    async def upload(self, path: str, content: bytes, content_type: str, *, likely_new: bool = False) -> bool:
        """Write a blob unless its content and type are there already.

        Args:
            path: `container/blob name`, not percent-encoded.
            content: the whole file.
            content_type: media type, such as `image/png`.
            likely_new: write first and look only where there is one already; half the requests for a new blob.

        Returns:
            True where it was written, False where an equal blob was found.
        """
        container, _, name = path.partition("/")
        blob = self._service.get_blob_client(container, name)
        settings = ContentSettings(
            content_type=content_type,
            content_md5=bytearray(hashlib.md5(content, usedforsecurity=False).digest()),
        )
        if likely_new:
            with contextlib.suppress(ResourceExistsError):
                await blob.upload_blob(content, overwrite=False, content_settings=settings)
                return True
        try:
            found = (await blob.get_blob_properties()).content_settings
        except ResourceNotFoundError:
            found = ContentSettings()
        if (found.content_md5, found.content_type) == (settings.content_md5, content_type):
            return False
        await blob.upload_blob(content, overwrite=True, content_settings=settings)
        return True

    async def download(self, uri: str) -> bytes:
        """Read a whole blob.

        Args:
            uri: an absolute URL of this account, or `container/blob name`.

        Raises:
            ImageError: this one can't be had; `reason` says why.
            SparsightError: the store lets us read nothing.
        """
        path = blob_path(uri, self.endpoint)
        url = f"{self.endpoint}/{quote(path)}"
        for number in range(1, self.tries + 1):
            try:
                return await self._get(url, uri)
            except (aiohttp.ClientError, TimeoutError) as error:
                if number == self.tries:
                    trouble = _trouble(error)
                    raise ImageError(uri, f"network: {trouble}, tried {self.tries} times", transient=True) from error
                await asyncio.sleep(_pause(number, error))
        raise AssertionError("tries is at least 1")

    async def names(self, prefix: str) -> list[str]:
        """List blobs, sorted, as `container/blob name`.

        Args:
            prefix: `container/beginning of names`; a container alone lists all of it.

        Raises:
            SparsightError: there is no such container.
        """
        container, _, beginning = prefix.partition("/")
        blobs = self._service.get_container_client(container).list_blob_names(name_starts_with=beginning)
        try:
            return sorted([f"{container}/{name}" async for name in blobs])
        except ResourceNotFoundError as error:
            raise SparsightError(f"{self.endpoint} has no container {container!r}.") from error

    async def _get(self, url: str, uri: str) -> bytes:
        await self._authorise()
        target = URL(f"{url}?{self._signature}" if self._signature else url, encoded=True)
        async with self._session.get(target, headers=self._headers, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                self._refuse(response, uri)
            if (response.content_length or 0) > self.max_bytes:
                raise ImageError(uri, "too large (bytes)")
            if response.content_length is not None:
                return await response.read()
            return await self._read_unannounced(response, uri)

    async def _read_unannounced(self, response: aiohttp.ClientResponse, uri: str) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self.max_bytes:
                raise ImageError(uri, "too large (bytes)")
        return bytes(content)

    def _refuse(self, response: aiohttp.ClientResponse, uri: str) -> None:
        code = response.headers.get("x-ms-error-code", "")
        if response.status in _TRANSIENT:
            response.raise_for_status()
        if response.status == HTTPStatus.NOT_FOUND:
            raise ImageError(uri, "missing")
        if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise SparsightError(
                f"{self.endpoint} lets us read nothing: HTTP {response.status} {code} for {uri}.",
                hint="Give this identity the role 'Storage Blob Data Reader' on the storage account.",
            )
        raise ImageError(uri, f"refused: HTTP {response.status} {code}".rstrip())

    async def _authorise(self) -> None:
        """Renew what authorises downloads a while before it runs out."""
        async with self._lock:
            if time.time() < self._valid_until - _RENEW_SECONDS:
                return
            if self._credential is None:
                self._sign()
            else:
                await self._sign_in(self._credential)

    def _sign(self) -> None:
        """Make a read-only signature out of an emulator's key."""
        until = datetime.now(UTC) + timedelta(hours=6)
        self._signature = generate_account_sas(
            self.settings.account,
            self.settings.key or "",
            ResourceTypes(object=True),
            AccountSasPermissions(read=True),
            until,
        )
        self._valid_until = until.timestamp()

    async def _sign_in(self, identity: AsyncTokenCredential) -> None:
        try:
            token = await identity.get_token(SCOPE)
        except ClientAuthenticationError as error:
            raise SparsightError(
                f"No way to sign in to {self.endpoint}: {str(error).partition(chr(10))[0]}", hint="Try `az login`."
            ) from error
        self._headers["Authorization"] = f"Bearer {token.token}"
        self._valid_until = float(token.expires_on)


def _pause(number: int, error: Exception) -> float:
    """Seconds before the next try: what the server asks for, else doubling, spread so that tasks don't march."""
    headers = error.headers if isinstance(error, aiohttp.ClientResponseError) else None
    asked = headers.get("Retry-After", "") if headers else ""
    if asked.isdigit():
        return min(float(asked), 60.0)
    return random.uniform(0.5, 1.0) * min(0.25 * 2.0**number, 20.0)  # noqa: S311 - no secret


def _trouble(error: Exception) -> str:
    """Name a network trouble in words that don't change from image to image."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"HTTP {error.status}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    return "connection broke"
