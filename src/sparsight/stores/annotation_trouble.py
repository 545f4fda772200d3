"""Trouble with Label Studio, told in one message: no server, a token that isn't taken, something it refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from sparsight.errors import SparsightError

_START = "Start it (python execute.py services up --with label-studio), or check SPARSIGHT_LABEL_STUDIO_URL."
_HOW_TO_SIGN_IN = (
    "Give SPARSIGHT_LABEL_STUDIO_TOKEN a personal access token, which Label Studio makes on its page "
    "Account & Settings; the legacy token only works where the organisation allows it."
)


@contextmanager
def explained(url: str, doing: str = "") -> Iterator[None]:
    """Turn what the SDK raises into a message for people.

    Args:
        url: the server's address.
        doing: what the server was asked for, such as `change project 'cells'`; goes into the message.
    """
    import httpx
    import pydantic
    from label_studio_sdk.core.api_error import ApiError

    try:
        yield
    except ApiError as error:
        raise _refused(url, doing, error) from error
    except httpx.TransportError as error:
        raise SparsightError(f"Label Studio at {url} doesn't answer: {_first_line(error)}", hint=_START) from error
    except (ValueError, pydantic.ValidationError) as error:
        raise _strange(url, _first_line(error)) from error


def _refused(url: str, doing: str, error: Any) -> SparsightError:
    status, detail = error.status_code, _detail(error.body)
    if status is None or status < HTTPStatus.BAD_REQUEST:  # an answer, but not in JSON
        return _strange(url, detail)
    if status == HTTPStatus.UNAUTHORIZED:
        return SparsightError(f"Label Studio at {url} doesn't take the token: {detail}", hint=_HOW_TO_SIGN_IN)
    if status == HTTPStatus.FORBIDDEN:
        hint = "Use the token of somebody who may change projects there."
        return SparsightError(f"Label Studio at {url} doesn't let us {doing or 'in'}: {detail}", hint=hint)
    return SparsightError(f"Label Studio at {url} refuses to {doing or 'answer'}: HTTP {status}, {detail}")


def _strange(url: str, answer: str) -> SparsightError:
    return SparsightError(
        f"What answers at {url} isn't Label Studio, or one that this SDK can't read: {answer}",
        hint="Check SPARSIGHT_LABEL_STUDIO_URL: it is the address that people open, without any page's path.",
    )


def _detail(body: Any) -> str:
    """Find what an answer says for people: what is wrong with each field, else its `detail`."""
    if not isinstance(body, dict):
        return str(body).strip().partition("\n")[0][:300] or "no reason given"
    errors = body.get("validation_errors")
    if isinstance(errors, dict):
        return "; ".join(f"{field}: {_told(reasons)}" for field, reasons in errors.items())
    return _told(body.get("detail", body))


def _told(reasons: Any) -> str:
    return " ".join(map(str, reasons)) if isinstance(reasons, list) else str(reasons)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
