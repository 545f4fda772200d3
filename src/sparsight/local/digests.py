"""Digests of files and folders: by content for cache keys, by size and time for a quick look whether one is whole."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsight.data.artefact import write_text

Stamp = tuple[int, int]
_SKIPPED = frozenset({"__pycache__", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


def file_digest(path: Path) -> str:
    """Hash a file's content (BLAKE2b, 128 bits, as hex)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def files_under(path: Path) -> Iterator[tuple[str, Path]]:
    """Name every file under a folder (or the file itself, as `.`), sorted, with `/` between folders."""
    if path.is_file():
        yield ".", path
        return
    found = [Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names]
    yield from sorted((file.relative_to(path).as_posix(), file) for file in found)


def content_digest(path: Path) -> str:
    """Hash a file or folder: the names and contents of everything in it."""
    total = hashlib.blake2b(digest_size=16)
    for name, file in files_under(path):
        total.update(f"{name}\0{file_digest(file)}\n".encode())
    return total.hexdigest()


def stamps(path: Path) -> dict[str, Stamp]:
    """List size in bytes and modification time in ns of every file, by name."""
    found = {}
    for name, file in files_under(path):
        status = file.stat()
        found[name] = (status.st_size, status.st_mtime_ns)
    return found


def is_whole(path: Path, expected: Mapping[str, Any], digest: str) -> bool:
    """Tell whether a file or folder is as it was: by sizes and times, and by content where only the times differ."""
    if not path.exists():
        return False
    found = stamps(path)
    known = {name: (stamp[0], stamp[1]) for name, stamp in expected.items()}
    if found == known:
        return True
    sizes = {name: size for name, (size, _) in found.items()}
    return sizes == {name: size for name, (size, _) in known.items()} and content_digest(path) == digest


def data_digest(path: Path, memory: Path) -> str:
    """Hash the user's data, once: the result is kept in the folder `memory` until a size or a time changes."""
    signature = hashlib.sha256(json.dumps([str(path), stamps(path)], sort_keys=True).encode()).hexdigest()
    note = memory / signature
    if note.is_file():
        return note.read_text(encoding="utf-8")
    digest = content_digest(path)
    memory.mkdir(parents=True, exist_ok=True)
    write_text(note, digest)
    return digest


def code_digests(folder: Path) -> dict[str, str]:
    """Hash each file of a code folder that Azure ML would upload: `.amlignore`, or else `.gitignore`, is honoured."""
    from azure.ai.ml._utils._asset_utils import get_ignore_file

    ignored = get_ignore_file(folder)
    found = {}
    for name, file in files_under(folder):
        hidden = not _SKIPPED.isdisjoint(Path(name).parts) or name.endswith(".pyc")
        if not hidden and not ignored.is_file_excluded(file):
            found[name] = file_digest(file)
    return found
