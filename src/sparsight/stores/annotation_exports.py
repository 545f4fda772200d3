"""Complete exports of a Label Studio project, as snapshots that the server makes: one state, however large."""

import secrets
import time
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio
    from label_studio_sdk.core.request_options import RequestOptions

_PATIENCE = 4 * 3600
_TICK = 2.0
_CHUNK = 1 << 20
_CUT_OFF = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}


def fetch_export(client: "LabelStudio", project: int, file: IO[bytes]) -> int | None:
    """Have a snapshot of a project made, write it to a file, and remove it from the server.

    Returns:
        How many tasks the server says are in it; None where it doesn't.

    Raises:
        SparsightError: the server doesn't finish it.
    """
    exports = client.projects.exports
    snapshot = _make(client, project)
    try:
        snapshot = _wait(client, project, snapshot)
        for chunk in exports.download(project, snapshot.id, request_options={"chunk_size": _CHUNK}):
            file.write(chunk)
    finally:
        exports.delete(project, snapshot.id)
    return (snapshot.counters or {}).get("task_number")


def _make(client: "LabelStudio", project: int) -> Any:
    """Ask for a snapshot, once.

    The open-source edition answers when it is done. Where that takes longer than something between us and the server
    waits, the snapshot is made all the same, and found by its title.
    """
    import httpx
    from label_studio_sdk.core.api_error import ApiError

    title = f"sparsight-{secrets.token_hex(8)}"
    options: RequestOptions = {"max_retries": 0, "timeout_in_seconds": _PATIENCE}
    try:
        return client.projects.exports.create(project, title=title, request_options=options)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout):
        pass
    except ApiError as error:
        if error.status_code not in _CUT_OFF:
            raise
    found = [each for each in client.projects.exports.list(project) if each.title == title]
    if not found:
        raise SparsightError("Label Studio broke off while it made an export.", hint="Look into its log; try again.")
    return found[0]


def _wait(client: "LabelStudio", project: int, snapshot: Any) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while snapshot.status in {"created", "in_progress"} and time.monotonic() < deadline:
        time.sleep(_TICK)
        snapshot = client.projects.exports.get(project, snapshot.id)
    if snapshot.status != "completed":
        raise SparsightError(f"Label Studio's export is {snapshot.status}.", hint="Its own log says why.")
    return snapshot
