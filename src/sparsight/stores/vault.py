"""A secret in Azure Key Vault, read by identity."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sparsight.errors import SparsightError
from sparsight.stores.settings import signed_in

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

API_VERSION = "7.4"
LABEL_STUDIO = "SPARSIGHT_LABEL_STUDIO_TOKEN_SECRET"
# The domains of Key Vault, by cloud. Whoever is sent a token for vaults can read all that this identity can read.
_DOMAINS = ("vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net")


def read_secret(
    address: str,
    *,
    variable: str = LABEL_STUDIO,
    identity: "TokenCredential | None" = None,
    transport: Any = None,
) -> str:
    """Read the newest version of a secret, or the one that the address names.

    Args:
        address: such as `https://name.vault.azure.net/secrets/label-studio-token`.
        variable: names the variable that it was read from, for messages.
        identity: who asks; by default whoever runs this.
        transport: azure-core's HTTP transport; by default its own.

    Raises:
        SparsightError: the address is no secret's, or the vault doesn't hand it out.
    """
    from azure.core import PipelineClient
    from azure.core.exceptions import AzureError
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
    from azure.core.rest import HttpRequest

    domain = check_secret_address(address, variable)
    policies = [RetryPolicy(), BearerTokenCredentialPolicy(identity or signed_in(), f"https://{domain}/.default")]
    client: PipelineClient[Any, Any] = PipelineClient(address, policies=policies, transport=transport)
    request = HttpRequest("GET", address, params={"api-version": API_VERSION})
    try:
        with client:
            response = client.send_request(request)
    except AzureError as error:
        raise _refused(address, str(error).partition("\n")[0]) from error
    if response.status_code != HTTPStatus.OK:
        raise _refused(address, f"HTTP {response.status_code} {_code(response)}".rstrip())
    return str(response.json()["value"])


def check_secret_address(address: str, variable: str = LABEL_STUDIO) -> str:
    """Check that an address is a secret's in a vault, so that no other host is sent a token.

    Args:
        address: of a secret.
        variable: names the variable that it was read from, for messages.

    Returns:
        The domain of the vault's cloud, such as `vault.azure.net`.

    Raises:
        SparsightError: it isn't; the message doesn't show it, as it may be a token itself.
    """
    parts = urlsplit(address)
    host = parts.netloc.lower()
    domain = next((each for each in _DOMAINS if host.endswith(f".{each}")), "")
    if parts.scheme != "https" or not domain or "@" in host or not parts.path.startswith("/secrets/") or parts.query:
        raise SparsightError(
            f"{variable} is not the address of a secret in a key vault.",
            hint="Expected is one such as https://<vault>.vault.azure.net/secrets/<name>.",
        )
    return domain


def _code(response: Any) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _refused(address: str, reason: str) -> SparsightError:
    return SparsightError(
        f"The secret {address} can't be read: {reason}",
        hint="Give this identity the role 'Key Vault Secrets User' on that secret, and see that the vault's network "
        "lets this machine in.",
    )
