"""Addresses by which a browser shows photos without signing in, for a while: signed by key or by identity."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from sparsight.errors import SparsightError
from sparsight.stores.images import blob_path
from sparsight.stores.settings import BlobSettings, blob_service

if TYPE_CHECKING:
    from azure.storage.blob import UserDelegationKey

MAX_HOURS = 168
"""As long as a user delegation key can be valid: seven days."""
_CLOCKS_APART = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class UrlSigner:
    """Makes addresses that let whoever has one read one photo until they expire.

    Args:
        settings: the account of the photos.
        expiry: until when.
        key: what signs in the name of an identity; None where the account's own key does.
    """

    settings: BlobSettings
    expiry: datetime
    key: "UserDelegationKey | None" = None

    def url(self, uri: str) -> str:
        """Sign the address of one photo.

        Args:
            uri: an absolute URL of the account, or `container/blob name`.

        Raises:
            ImageError: the address leads elsewhere or names no blob.
        """
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        endpoint = self.settings.endpoint.rstrip("/")
        path = blob_path(uri, endpoint)
        container, _, name = path.partition("/")
        options: dict[str, Any] = {"protocol": "https"} if endpoint.startswith("https:") else {}
        signature = generate_blob_sas(
            self.settings.account,
            container,
            name,
            account_key=self.settings.key,
            user_delegation_key=self.key,
            permission=BlobSasPermissions(read=True),
            expiry=self.expiry,
            **options,
        )
        return f"{endpoint}/{quote(path)}?{signature}"


async def make_signer(hours: float, settings: BlobSettings | None = None) -> UrlSigner:
    """Prepare to sign addresses that are valid for so many hours from now.

    On Azure they are signed with a user delegation key, which takes the role 'Storage Blob Delegator' on the account;
    and the account must let the pages in that show the photos (CORS). An emulator is told to let any page in: its
    photos ask for a signature all the same.

    Raises:
        SparsightError: too many hours, or the account gives this identity no key.
    """
    if not 0 < hours <= MAX_HOURS:
        raise SparsightError(f"Addresses of photos can be valid for up to {MAX_HOURS} hours, not {hours:g}.")
    chosen = settings or BlobSettings.from_environment()
    expiry = datetime.now(UTC) + timedelta(hours=hours)
    async with blob_service(chosen) as service:
        if chosen.key:
            await _let_browsers_in(service)
            return UrlSigner(settings=chosen, expiry=expiry)
        return UrlSigner(settings=chosen, expiry=expiry, key=await _delegation_key(service, chosen, expiry))


async def _let_browsers_in(service: Any) -> None:
    from azure.storage.blob import CorsRule

    any_page = CorsRule(["*"], ["GET", "HEAD"], allowed_headers=["*"], exposed_headers=["*"], max_age_in_seconds=3600)
    await service.set_service_properties(cors=[any_page])


async def _delegation_key(service: Any, settings: BlobSettings, expiry: datetime) -> Any:
    from azure.core.exceptions import AzureError

    # A little earlier than now, since clocks differ, but the service signs for no longer than its limit.
    start = max(datetime.now(UTC) - _CLOCKS_APART, expiry - timedelta(hours=MAX_HOURS))
    try:
        return await service.get_user_delegation_key(start, expiry)
    except AzureError as error:
        raise SparsightError(
            f"{settings.endpoint} gives us no key to sign addresses of photos: {str(error).partition(chr(10))[0]}",
            hint="Give this identity the role 'Storage Blob Delegator' on the storage account.",
        ) from error


def expiry_of(url: str) -> datetime | None:
    """Read until when a signed address is valid; None where it isn't signed."""
    found = parse_qs(urlsplit(url).query).get("se")
    try:
        return datetime.fromisoformat(found[0]) if found else None
    except ValueError:
        return None
