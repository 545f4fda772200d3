"""The files of an index that change: each change writes new ones beside the old, and one small file says which count.

Whoever has opened the old ones goes on reading them, also after they are removed.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparsight.data.artefact import write_text
from sparsight.errors import SparsightError

CURRENT = "current.json"
_LOCK = ".lock"


class FileDigest(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Generation(BaseModel):
    """Content of current.json: the number of the last change, how many photos there are, and the files that count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    photos: int = Field(ge=0)
    files: dict[str, FileDigest]

    def path(self, folder: Path, kind: str) -> Path:
        """Say where the file of a kind is, such as `codes`.

        Raises:
            SparsightError: there is none of that kind.
        """
        for name in self.files:
            if name.startswith((f"{kind}-", f"{kind}.")):
                return folder / name
        raise SparsightError(f"{folder / CURRENT} names no {kind}.", hint="Build the index again.")

    def check(self, folder: Path) -> None:
        """Read all files through and refuse those that aren't what was written.

        Raises:
            SparsightError: one is cut short or changed.
            FileNotFoundError: one is gone.
        """
        for name, expected in self.files.items():
            found = digest(folder / name)
            if found.bytes != expected.bytes:
                trouble = f"has {found.bytes:,} bytes; expected {expected.bytes:,}"
            elif found.sha256 != expected.sha256:
                trouble = "isn't what was written: its SHA-256 is another"
            else:
                continue
            raise SparsightError(f"{folder / name} {trouble}.", hint="Build the index again, or take a whole copy.")


def read_generation(folder: Path) -> Generation:
    """Read which files of an index count now.

    Raises:
        SparsightError: current.json is missing or damaged.
    """
    path = folder / CURRENT
    try:
        found = Generation.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise SparsightError(f"{path} can't be read: {error}", hint="Build the index again.") from error
    if any(Path(name).name != name for name in found.files):
        raise SparsightError(f"{path} names files elsewhere; expected names of files beside it.")
    return found


def write_generation(folder: Path, number: int, photos: int, names: list[str]) -> None:
    """Make files that are whole on disk the ones that count, and remove those of the generation before."""
    files = {name: digest(folder / name, sync=True) for name in sorted(names)}
    text = Generation(number=number, photos=photos, files=files).model_dump_json(indent=2)
    write_text(folder / CURRENT, text + "\n")
    for path in folder.glob("*-[0-9][0-9][0-9][0-9][0-9][0-9].*"):
        if path.name not in files:
            path.unlink(missing_ok=True)


def name_of(kind: str, number: int, suffix: str) -> str:
    """Name a file of a generation."""
    return f"{kind}-{number:06d}.{suffix}"


def digest(path: Path, *, sync: bool = False) -> FileDigest:
    """Read a file through; with `sync`, wait until it is on the disk."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        found = hashlib.file_digest(file, "sha256")
        return FileDigest(bytes=file.tell(), sha256=found.hexdigest())


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Be the only one who changes an index for the length of a block.

    Raises:
        SparsightError: another process does so now, or the folder can't be written.
    """
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise SparsightError(
            f"{folder} is being changed by another process.", hint="Try again when it is done."
        ) from error
    except PermissionError as error:
        raise SparsightError(f"{folder} can't be written: {error.strerror}.") from error
