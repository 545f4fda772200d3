"""Publishes model folders as versions of registered models, and fetches them again, whichever registry there is."""

import os
import shutil
from pathlib import Path

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
        _name(draft, into)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return into


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
