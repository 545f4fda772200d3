"""What Azure says when it refuses, told to a person."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from sparsight.cloud.workspace import Workspace
from sparsight.errors import SparsightError

SIGN_IN = "Sign in with `az login` (in CI: its login step), then call again."
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


@contextmanager
def told(purpose: str, workspace: Workspace) -> Iterator[None]:
    """Turn Azure's errors in the block into one message each.

    Args:
        purpose: what was to be done, as in "submit recognise".
        workspace: where.

    Raises:
        SparsightError: in place of whatever Azure's clients raise.
    """
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError

    try:
        yield
    except (AzureError, MlException) as error:
        raise refused(purpose, workspace, error) from error


def refused(purpose: str, workspace: Workspace, error: Exception) -> SparsightError:
    """Say what went wrong, and what helps."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    says, status = what_it_says(error), getattr(error, "status_code", None)
    if isinstance(error, ClientAuthenticationError) or status == HTTPStatus.UNAUTHORIZED:
        return SparsightError(f"Couldn't {purpose}: Azure doesn't know who is asking. {says}", hint=SIGN_IN)
    if status == HTTPStatus.FORBIDDEN:
        of_storage = "x-ms-error-code" in (getattr(getattr(error, "response", None), "headers", None) or {})
        role = "Storage Blob Data Contributor on the workspace's storage account"
        return SparsightError(
            f"Couldn't {purpose}: you are signed in, but may not do that in {workspace}. {says}",
            hint=f"Ask for the role {role if of_storage else 'AzureML Data Scientist on the workspace'}.",
        )
    if is_transient(error):
        return SparsightError(
            f"Couldn't {purpose}: {workspace} can't be reached. {says}", hint="Look at the network, then call again."
        )
    if status == HTTPStatus.NOT_FOUND:
        return SparsightError(
            f"Couldn't {purpose} in {workspace}: {says}", hint="Check the name, and that it is this workspace's."
        )
    if isinstance(error, HttpResponseError) and "quota" in says.lower():
        return SparsightError(
            f"Couldn't {purpose}: the subscription's quota doesn't allow it. {says}",
            hint="Take a compute with fewer or other nodes (--compute NAME), or ask for more quota in the portal.",
        )
    return SparsightError(f"Couldn't {purpose} in {workspace}: {says}")


def is_transient(error: Exception) -> bool:
    """Whether the same call may go through later: a lost connection, a timeout, a service that is busy."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    return isinstance(error, ServiceRequestError | ServiceResponseError) or (
        getattr(error, "status_code", None) in _TRANSIENT
    )


def what_it_says(error: Exception) -> str:
    """The service's own sentence, without the rest of the answer."""
    told = getattr(getattr(error, "error", None), "message", None) or getattr(error, "message", None) or str(error)
    first = next((line.strip() for line in str(told).splitlines() if line.strip()), type(error).__name__)
    return first if first.endswith((".", "!", "?")) else f"{first}."
