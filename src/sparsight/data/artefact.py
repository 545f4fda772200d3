"""The folders that pass between steps: a manifest says what is inside, and none is seen half-written."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsight.errors import SparsightError

MANIFEST = "manifest.json"
_MARK = ".resume"
VERSIONS = {
    "dataset": 2,
    "images": 1,
    "model": 1,
    "comparison": 1,
    "verdict": 1,
    "embeddings": 1,
    "index": 1,
    "predictions": 1,
    "selection": 1,
    "sampling_evaluation": 1,
    "frames": 1,
    "tasks": 1,
    "synced_labels": 1,
    "label_quality": 1,
    "preprocessing": 1,
    "tuning": 1,
}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder holds: its format's name and version, counts, and the parameters that made it."""

    format: str
    version: int
    counts: Mapping[str, int]
    parameters: Mapping[str, Any]


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Read and check the manifest of a folder that must be a `kind` artefact.

    Raises:
        SparsightError: the folder is missing, unfinished, of another kind or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        state = "is not there" if not folder.exists() else f"has no {MANIFEST}: it isn't finished, or isn't ours"
        raise SparsightError(f"{folder} {state}; expected a {kind} folder.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**content)
    except (ValueError, TypeError) as error:
        raise SparsightError(f"{path} can't be read as a manifest: {error}.") from error
    if manifest.format != f"sparsight/{kind}":
        raise SparsightError(f"{folder} holds {manifest.format!r}; expected 'sparsight/{kind}'.")
    if manifest.version != VERSIONS[kind]:
        raise SparsightError(
            f"{folder} is version {manifest.version} of sparsight/{kind}; this code reads version {VERSIONS[kind]}.",
            hint="Make it again with this version of Sparsight.",
        )
    return manifest


def is_artefact(folder: Path) -> bool:
    """Tell whether a folder is a whole artefact, of whatever kind, and not a link to another run's."""
    return (folder / MANIFEST).is_file() and not folder.is_symlink()


def is_finished(target: Path, kind: str, parameters: Mapping[str, Any]) -> bool:
    """Tell whether `target` is a whole `kind` artefact made with the very same parameters."""
    if not (target / MANIFEST).is_file():
        return False
    return _fingerprint(kind, read_manifest(target, kind).parameters) == _fingerprint(kind, _as_json(parameters))


@dataclass
class Draft:
    """An artefact being written. Fill `folder`, `counts` and `parameters`; it appears when the block ends."""

    folder: Path
    parameters: Mapping[str, Any]
    counts: dict[str, int] = field(default_factory=dict)


def _fingerprint(kind: str, parameters: Mapping[str, Any]) -> str:
    text = json.dumps([kind, VERSIONS[kind], parameters], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest gives back for these parameters: tuples have become lists, paths strings."""
    read: dict[str, Any] = json.loads(json.dumps(dict(parameters), default=str))
    return read


@contextmanager
def new_artefact(target: Path, kind: str, parameters: Mapping[str, Any], *, resume: bool = False) -> Iterator[Draft]:
    """Write an artefact so that `target` is whole or absent.

    The work happens in `<target>.partial`, renamed at the end; where `target` exists already as an empty or
    unfinished folder (a mounted output of Azure ML), it happens in there and the manifest, without which no reader
    opens the folder, is written last.

    Args:
        target: the folder's final name.
        kind: `dataset`, `images`, `model`, `comparison` or `verdict`.
        parameters: what made it, JSON-able; goes into the manifest.
        resume: keep what an interrupted run with the very same parameters left behind, instead of starting anew.

    Raises:
        SparsightError: `target` holds a finished artefact.
    """
    work = begin_artefact(target, kind, parameters, resume=resume)
    draft = Draft(work, parameters)
    yield draft
    (work / _MARK).unlink()
    manifest = {
        "format": f"sparsight/{kind}",
        "version": VERSIONS[kind],
        "counts": draft.counts,
        "parameters": dict(parameters),
    }
    write_text(work / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True, default=str) + "\n")
    if work != target:
        work.replace(target)


def begin_artefact(target: Path, kind: str, parameters: Mapping[str, Any], *, resume: bool = False) -> Path:
    """Make the folder in which `new_artefact` will work, and return it; to be resumed, it is left as it is.

    Several processes may do so for one folder, to be resumed by all, once the first of them has.

    Raises:
        SparsightError: `target` holds a finished artefact.
    """
    if (target / MANIFEST).exists():
        raise SparsightError(f"{target} is finished already.", hint="Give another output folder, or remove this one.")
    work = draft_folder(target)
    mark, expected = work / _MARK, _fingerprint(kind, parameters)
    if not (resume and mark.is_file() and mark.read_text(encoding="utf-8") == expected):
        _empty(work)
        write_text(mark, expected)
    return work


def leave_artefact(work: Path, target: Path) -> None:
    """End this process's part of an artefact that another process has finished with `new_artefact`.

    Where both work in one folder, nothing is left to do. Otherwise `work` is another machine's, and holds a part of the
    artefact without a manifest: the parts are whole together.
    """
    (work / _MARK).unlink(missing_ok=True)
    if work != target and work.is_dir():
        work.replace(target)


def copy_artefact(source: Path, target: Path) -> None:
    """Copy an artefact, also over an unfinished copy; the manifest comes last, and makes it whole."""
    files = [path for path in source.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda file: file == source / MANIFEST):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, file.read_bytes())


def draft_folder(target: Path) -> Path:
    """Where an artefact is written before it is whole."""
    return target if target.is_dir() else target.with_name(f"{target.name}.partial")


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is whole or absent, also when the process is killed."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or absent, also when the process is killed."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
