"""The model registry (MLflow, also Azure ML's): publishes model folders as named versions and fetches them again."""

import difflib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ARTIFACT = "model"
MLFLOW_MODEL = "mlflow_model"
"""Folder in a model artefact that MLflow opens; models.pyfunc writes it."""
MANIFEST = "manifest.json"
REFERENCE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,254})(?:@(?P<alias>[A-Za-z0-9_.-]+)|/(?P<version>\d+))")


def is_reference(text: str) -> bool:
    """Say whether a text has the form of a registered model: `name@latest`, `name@alias` or `name/3`."""
    return REFERENCE.fullmatch(text) is not None


def register_model(folder: Path, name: str, *, run_id: str, tags: Mapping[str, str]) -> str:
    """Log a model folder as artefact `model` of a run and make it the next version of a registered model.

    What is logged is the folder's `mlflow_model`, which holds weights and description too, with the manifest beside:
    it opens with `mlflow.pyfunc.load_model("models:/name/3")`, and, fetched, as a model folder of ours. MLflow's own
    `log_model` isn't used since Azure ML has no endpoint for what it posts.

    Args:
        folder: a finished model artefact.
        name: letters, digits, `-`, `_` and `.`.
        run_id: the MLflow run that made it.
        tags: go onto the version.

    Returns:
        The reference of the new version, for example `photos/3`.

    Raises:
        SparsightError: the name isn't allowed, the folder holds no MLflow model, or the registry can't be reached.
    """
    if not is_reference(f"{name}/1"):
        raise SparsightError(f"{name!r} can't be a model's name; expected letters, digits, '-', '_' and '.'.")
    if not (folder / MLFLOW_MODEL / "MLmodel").is_file():
        raise SparsightError(
            f"{folder} holds no {MLFLOW_MODEL} folder with an MLmodel file; expected a model artefact."
        )
    with _client(f"register {name}") as client:
        client.log_artifacts(run_id, str(folder / MLFLOW_MODEL), ARTIFACT)
        client.log_artifact(run_id, str(folder / MANIFEST), ARTIFACT)
        _ensure_registered(client, name)
        version = client.create_model_version(name, f"runs:/{run_id}/{ARTIFACT}", run_id, tags=dict(tags))
    return f"{name}/{version.version}"


def fetch_model(reference: str, into: Path) -> Path:
    """Download a registered model into a new folder, which appears only when whole.

    Args:
        reference: `name@latest` (the highest version), `name@alias`, or `name/3`.
        into: the folder to make.

    Returns:
        `into`, a model artefact.

    Raises:
        SparsightError: the reference is malformed or unknown, `into` exists, or the registry can't be reached.
    """
    if into.exists():
        raise SparsightError(f"{into} exists already.", hint="Give another folder to fetch the model into.")
    draft = into.with_name(f".{into.name}.{os.getpid()}.partial")
    with _client(f"fetch {reference}") as client:
        version = _find(client, reference)
        try:
            _download(version, draft)
            draft.replace(into)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return into


def _download(version: "ModelVersion", folder: Path) -> None:
    from mlflow.artifacts import download_artifacts

    folder.mkdir(parents=True)
    download_artifacts(artifact_uri=f"models:/{version.name}/{version.version}", dst_path=str(folder))
    if not (folder / MANIFEST).is_file():
        raise SparsightError(
            f"{version.name}/{version.version} is in the registry, but has no {MANIFEST}: Sparsight didn't make it."
        )


def _find(client: "MlflowClient", reference: str) -> "ModelVersion":
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise SparsightError(
            f"{reference!r} doesn't name a registered model; expected name@latest, name@alias or name/3."
        )
    name, alias, number = match["name"], match["alias"], match["version"]
    versions = {int(version.version): version for version in client.search_model_versions(f"name='{name}'")}
    if not versions:
        raise _unknown_name(client, name)
    if alias == "latest":
        return versions[max(versions)]
    if alias:
        aliases = client.get_registered_model(name).aliases
        number = aliases.get(alias, 0)
        known = ", ".join(f"{name}@{alias}" for alias in ("latest", *sorted(aliases)))
    else:
        known = ", ".join(f"{name}/{number}" for number in sorted(versions)[-10:])
    if int(number) not in versions:
        raise SparsightError(f"The registry has no {reference}; it has {known}.", hint=_where())
    return versions[int(number)]


def _unknown_name(client: "MlflowClient", name: str) -> SparsightError:
    names = sorted(model.name for model in client.search_registered_models())
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
    has = f"; the nearest it has: {', '.join(near)}" if near else "; it holds no model yet"
    return SparsightError(f"The registry has no model named {name!r}{has}.", hint=_where())


def _ensure_registered(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _where() -> str:
    import mlflow

    return f"All models are listed on the Models page of {mlflow.get_tracking_uri()}."


@contextmanager
def _client(purpose: str) -> "Iterator[Any]":
    """Give a client of the registry that the environment names, and tell its failures to a person."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        yield mlflow.MlflowClient()
    except (MlflowException, OSError) as error:
        raise SparsightError(
            f"Couldn't {purpose}: the registry at {mlflow.get_registry_uri()} says {error}.",
            hint="Check that MLFLOW_TRACKING_URI names a running MLflow server.",
        ) from error
