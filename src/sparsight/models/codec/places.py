"""Where files to compress come from and go to: files, folders, and Blob prefixes."""

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from sparsight.data.artefact import write_bytes
from sparsight.errors import SparsightError
from sparsight.stores.images import ImageStore

BLOB = "blob:"
"""What begins the name of a place in Blob Storage: blob:container/prefix."""
ResultT = TypeVar("ResultT")


class Place(Protocol):
    """Files by name, to be read or written."""

    def read(self, name: str) -> bytes:
        """Read a file."""

    def write(self, name: str, content: bytes, content_type: str) -> None:
        """Write a file: whole, or not at all."""


@dataclass(frozen=True)
class Folder:
    """A folder on this machine; names are relative paths."""

    path: Path

    def read(self, name: str) -> bytes:
        """Read a file."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise SparsightError(f"{self.path / name} can't be read: {error.strerror}.") from error

    def write(self, name: str, content: bytes, content_type: str) -> None:
        """Write a file, making folders as needed."""
        target = self.path / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, content)
        except OSError as error:
            raise SparsightError(f"{target} can't be written: {error.strerror}.") from error


class BlobStorage:
    """Blob Storage for code that isn't asynchronous: a context, in which a thread of its own does the asking.

    It is opened on first use, so that who needs none needs no address of one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="blobs", daemon=True)
        self._store: ImageStore | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._run(self._store.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def names(self, prefix: str) -> list[str]:
        """List blobs as `container/blob name`."""
        return self._run(_names(self._opened(), prefix))

    def read(self, path: str) -> bytes:
        """Read a blob."""
        return self._run(self._opened().download(path))

    def write(self, path: str, content: bytes, content_type: str) -> None:
        """Write a blob unless it is there already."""
        self._run(self._opened().upload(path, content, content_type, likely_new=True))

    def _opened(self) -> ImageStore:
        with self._lock:
            if self._store is None:
                self._store = self._run(ImageStore().__aenter__())
            return self._store

    def _run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@dataclass(frozen=True)
class Prefix:
    """A place in Blob Storage; names follow `container/prefix` and a slash."""

    blobs: BlobStorage
    path: str

    def read(self, name: str) -> bytes:
        """Read a blob."""
        return self.blobs.read(f"{self.path}/{name}")

    def write(self, name: str, content: bytes, content_type: str) -> None:
        """Write a blob."""
        self.blobs.write(f"{self.path}/{name}", content, content_type)


@dataclass(frozen=True)
class Found:
    """A file to work on."""

    place: Place
    name: str


def open_place(where: str, blobs: BlobStorage) -> Place:
    """The place that `blob:container/prefix`, or a folder's path, names."""
    if where.startswith(BLOB):
        return Prefix(blobs, where.removeprefix(BLOB).strip("/"))
    return Folder(Path(where))


def find(sources: Iterable[str], suffixes: tuple[str, ...], blobs: BlobStorage) -> list[Found]:
    """Find files: those that sources name, and in folders and Blob prefixes those with one of some suffixes.

    Raises:
        SparsightError: a source isn't there, or holds no such file; two files would get the same name.
    """
    found: dict[str, Found] = {}
    for source in sources:
        here = _in_blobs(source, suffixes, blobs) if source.startswith(BLOB) else _on_disk(Path(source), suffixes)
        if not here:
            raise SparsightError(f"{source} holds no {', '.join(suffixes)} file.")
        for each in here:
            if each.name in found:
                raise SparsightError(
                    f"Two files are named {each.name}: results would overwrite each other.",
                    hint="Name a folder above both, or take one after the other.",
                )
            found[each.name] = each
    return list(found.values())


def _on_disk(path: Path, suffixes: tuple[str, ...]) -> list[Found]:
    if path.is_file():
        return [Found(Folder(path.parent), path.name)]
    if not path.is_dir():
        raise SparsightError(f"{path} is neither a file nor a folder.")
    files = (each for each in sorted(path.rglob("*")) if each.is_file() and each.suffix.lower() in suffixes)
    return [Found(Folder(path), each.relative_to(path).as_posix()) for each in files]


async def _names(store: ImageStore, prefix: str) -> list[str]:
    return [name async for name, _ in store.blobs_below(prefix)]


def _in_blobs(source: str, suffixes: tuple[str, ...], blobs: BlobStorage) -> list[Found]:
    prefix = source.removeprefix(BLOB).strip("/")
    names = [name for name in blobs.names(prefix) if name.lower().endswith(suffixes)]
    if names == [prefix]:
        folder, _, name = prefix.rpartition("/")
        return [Found(Prefix(blobs, folder), name)]
    return [Found(Prefix(blobs, prefix), name[len(prefix) + 1 :]) for name in names if name.startswith(f"{prefix}/")]
