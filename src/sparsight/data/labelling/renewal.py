"""Addresses of photos in tasks, renewed before they expire: an expired one shows no photo."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from sparsight.progress import Progress
from sparsight.stores.annotations import AnnotationStore, Task
from sparsight.stores.image_urls import UrlSigner, expiry_of
from sparsight.stores.images import ImageError
from sparsight.stores.settings import is_loopback


def renew_urls(store: AnnotationStore, signer: UrlSigner, tasks: Iterable[Task]) -> int:
    """Renew the photo's address of each task where less than half of the time is left that a new one would have.

    Tasks whose photo is elsewhere, or has no address at all, are left alone.

    Args:
        store: the tasks' server.
        signer: makes the new addresses.
        tasks: of one project.

    Returns:
        How many were renewed.
    """
    due = [(task, url) for task in tasks if (url := _renewed(task, signer))]
    progress = Progress("renew addresses of photos", len(due), "tasks")
    for task, url in due:
        store.change_data(task.id, {**task.data, "image": url})
        progress.advance()
    if due:
        progress.finish()
    return len(due)


def _renewed(task: Task, signer: UrlSigner) -> str | None:
    """Sign a task's photo anew; None where that isn't due, or isn't ours to do."""
    current = str(task.data.get("image") or "")
    endpoint = signer.settings.endpoint
    address = _moved(current.partition("?")[0], endpoint)
    now, expiry = datetime.now(UTC), expiry_of(current)
    half = timedelta(seconds=(signer.expiry - now).total_seconds() / 2)
    if current.startswith(address) and expiry is not None and expiry - now >= half:
        return None
    try:
        return signer.url(address) if "://" in address else None
    except ImageError:
        return None


def _moved(address: str, endpoint: str) -> str:
    """An emulator's port changes from one start to another."""
    if not (is_loopback(address) and is_loopback(endpoint)):
        return address
    return urlsplit(address)._replace(netloc=urlsplit(endpoint).netloc).geturl()
