"""Publishes model folders as versions of registered models, and fetches them again, whichever registry there is."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sparsight.errors import SparsightError
from sparsight.stores.lineage import Lineage
from sparsight.stores.registry import (
    MANIFEST,
    ModelRegistry,
    ModelVersion,
    is_reference,
    open_registry,
    resolve,
    whole_model,
)

VERSION = "version.json"
"""In a fetched model: which version it is."""


def register_model(folder: Path, name: str, lineage: Lineage, registry: ModelRegistry | None = None) -> ModelVersion:
    """Make a model folder the next version of a registered model.

    What is registered is the folder's `mlflow_model`, which holds weights and description too, with manifest and
    lineage beside: it opens with `mlflow.pyfunc.load_model`, and, fetched, as a model folder of ours.

    Args:
        folder: a finished model artefact.
        name: letters, digits, `-`, `_` and `.`.
        lineage: where it is from; goes onto the version.
        registry: by default the environment's.

    Raises:
        SparsightError: the name isn't allowed, the folder holds no MLflow model, or the registry can't be reached.
    """
    if not is_reference(f"{name}/1"):
        raise SparsightError(f"{name!r} can't be a model's name; expected letters, digits, '-', '_' and '.'.")
    with whole_model(folder, lineage.to_json()) as whole:
        return (registry or open_registry()).register(whole, name, run_id=lineage.run_id, tags=lineage.tags())


def find_model(reference: str, registry: ModelRegistry | None = None) -> ModelVersion:
    """Find the version that `name@latest`, `name@production`, `name@alias` or `name/3` means now.

    Raises:
        SparsightError: the reference is malformed or unknown, or the registry can't be reached.
    """
    return resolve(registry or open_registry(), reference)


def fetch_model(reference: str | ModelVersion, into: Path, registry: ModelRegistry | None = None) -> Path:
    """Download a registered model into a new folder, which appears only when whole.

    Args:
        reference: as `find_model` takes it, or what that found.
        into: the folder to make.
        registry: by default the environment's.

    Returns:
        `into`, a model artefact.

    Raises:
        SparsightError: the reference is malformed or unknown, `into` exists, or the registry can't be reached.
    """
    if into.exists() or into.is_symlink():
        raise _exists(into)
    chosen = registry or open_registry()
    version = reference if isinstance(reference, ModelVersion) else resolve(chosen, reference)
    draft = _new_draft(into)
    try:
        chosen.download(version, draft)
        _check(draft, version)
        told = {"name": version.name, "version": version.number}
        (draft / VERSION).write_text(json.dumps(told) + "\n", encoding="utf-8")
        _name(draft, into)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return into


def fetched_version(folder: Path) -> str:
    """Say which registered version a model folder was fetched as, such as `photos/3`; empty where that isn't known."""
    path = folder / VERSION
    if not path.is_file():
        return ""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"{told['name']}/{told['version']}"
    except (ValueError, KeyError, TypeError) as error:
        raise SparsightError(f"{path} doesn't tell a model's version: {error}.") from error


@contextmanager
def model_folder(model: str, registry: ModelRegistry | None = None) -> Iterator[tuple[Path, str]]:
    """Give a model's folder for the length of a block: a registered one is fetched, a folder is taken as it is.

    Args:
        model: a folder's path, or a registered model: `name@latest`, `name@production`, `name/3`.
        registry: by default the environment's.

    Yields:
        The folder, and the version it is, such as `photos/3`; empty where that isn't known.

    Raises:
        SparsightError: it is neither, or the registry can't be reached.
    """
    if Path(model).is_dir():
        yield Path(model), fetched_version(Path(model))
    elif is_reference(model):
        version = find_model(model, registry)
        with TemporaryDirectory(prefix="sparsight-") as place:
            yield fetch_model(version, Path(place) / "model", registry), version.reference
    else:
        raise SparsightError(
            f"{model!r} is neither a folder that is there nor a registered model; "
            "expected name@latest, name@production, name/3, or a folder."
        )


def one_model(model: str | None, folder: Path | None) -> str:
    """Take the one model that a step's inputs `model` and `model_folder` name.

    Raises:
        SparsightError: both are given, or neither.
    """
    if (model is None) == (folder is None):
        given = "Neither model nor model_folder is" if model is None else f"Both model ({model!r}) and model_folder are"
        raise SparsightError(
            f"{given} given; expected one of them.",
            hint="Give a registered model as model, or the folder of an earlier step as model_folder.",
        )
    return str(folder) if model is None else model


def _new_draft(into: Path) -> Path:
    draft = into.with_name(f".{into.name}.{os.getpid()}.partial")
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed and had the same number
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise SparsightError(f"{draft.parent} can't be written: {error.strerror}.") from error
    return draft


def _check(folder: Path, version: ModelVersion) -> None:
    if not (folder / MANIFEST).is_file():
        raise SparsightError(
            f"{version.reference} is in the registry, but has no {MANIFEST}: Sparsight didn't make it."
        )


def _name(draft: Path, into: Path) -> None:
    try:
        draft.rename(into)
    except OSError as error:
        if into.exists():  # somebody was faster
            raise _exists(into) from error
        raise SparsightError(f"{into} can't be written: {error.strerror}.") from error


def _exists(into: Path) -> SparsightError:
    return SparsightError(f"{into} exists already.", hint="Give another folder to fetch the model into.")
