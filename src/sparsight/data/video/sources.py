"""Where videos are: a file, a folder, or all blobs below a prefix, each on this machine while it is read."""

import asyncio
import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sparsight.data.video.opening import VideoError
from sparsight.errors import SparsightError
from sparsight.stores.images import ImageError, ImageStore

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".3gp", ".ogv", ".wmv")
MAX_BYTES = 32 * 2**30


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video that can be had.

    Attributes:
        name: path below the folder or prefix, with `/`.
        opened: puts it on this machine while a block reads it, and gives its path there.
        digest: gives what changes when the content does.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Path]]
    digest: Callable[[], str]


def find_videos(place: Path | None = None, *, prefix: str = "", max_bytes: int = MAX_BYTES) -> list[Video]:
    """Find videos by their endings, sorted by name.

    Args:
        place: a video, or a folder with videos at any depth. Hidden ones, links that lead out of the folder, and names
            with control characters are passed over.
        prefix: in place of it, `container/` or `container/path/` in the storage account that the environment names.
        max_bytes: larger blobs are refused when they are read.

    Raises:
        SparsightError: there is no such place, it holds no video, or the store can't be read.
    """
    if (place is None) == (not prefix):
        raise SparsightError("Videos come from a folder or from a prefix in Blob Storage: give one of them.")
    if place is None:
        found = asyncio.run(_blobs_below(prefix, max_bytes))
    elif place.is_dir():
        found = [_local(place / name, str(name)) for name in _files_below(place)]
    elif place.is_file():
        found = [_local(place, place.name)]
    else:
        raise SparsightError(f"{place} is not there; expected a video, or a folder of videos.")
    if not found:
        raise SparsightError(
            f"There is no video below {place or prefix}; expected files ending in {', '.join(SUFFIXES)}.",
            hint="Give the folder that holds the videos; in a pipeline: --set videos=FOLDER.",
        )
    return found


def _files_below(root: Path) -> Sequence[PurePosixPath]:
    inside, found = root.resolve(), []
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for file in files:
            path = Path(folder, file)
            name = PurePosixPath(path.relative_to(root).as_posix())
            if is_video_name(str(name)) and path.is_file() and path.resolve().is_relative_to(inside):
                found.append(name)
    return sorted(found, key=str)


def is_video_name(name: str) -> bool:
    """Whether a path is a video's by its ending, isn't hidden, and can be shown to people."""
    path = PurePosixPath(name)
    plain = not any(unicodedata.category(each) in {"Cc", "Cs"} or each == "\\" for each in name)
    return plain and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _local(path: Path, name: str) -> Video:
    @contextmanager
    def opened() -> Iterator[Path]:
        yield path

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return Video(name=name, opened=opened, digest=digest)


async def _blobs_below(prefix: str, max_bytes: int) -> list[Video]:
    async with ImageStore() as store:
        blobs = {path: etag async for path, etag in store.blobs_below(prefix)}
    start = prefix if prefix.endswith("/") else prefix[: prefix.rfind("/") + 1]
    names = {path: path.removeprefix(start) for path in blobs if is_video_name(path)}
    return [_blob(path, name, blobs[path], max_bytes) for path, name in sorted(names.items())]


def _blob(path: str, name: str, etag: str, max_bytes: int) -> Video:
    @contextmanager
    def opened() -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="sparsight-video-") as folder:
            target = Path(folder) / f"video{PurePosixPath(path).suffix.lower()}"
            try:
                asyncio.run(_download(path, target, max_bytes))
            except ImageError as error:
                raise VideoError(error.reason) from error
            yield target

    return Video(name=name, opened=opened, digest=lambda: etag)


async def _download(path: str, target: Path, max_bytes: int) -> None:
    async with ImageStore(max_bytes=max_bytes) as store:
        await store.download_to(path, target)
