"""The model registry's one interface: versions of named models, which of them is in production, and how they are named.

MLflow's registry (`mlflow_registry`) and Azure ML's (`azureml_registry`) stand behind it; the tracking URI says which.
"""

import difflib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

from sparsight.errors import SparsightError

Stage = Literal["candidate", "production", "archived"]
"""Never promoted; the one in use; in use before."""
STAGE_TAG = "sparsight.stage"
PROMOTED_AT = "sparsight.promoted_at"
MLFLOW_MODEL = "mlflow_model"
"""Folder in a model artefact that MLflow opens; models.pyfunc writes it."""
MANIFEST = "manifest.json"
REFERENCE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,254})(?:@(?P<alias>[A-Za-z0-9_.-]+)|/(?P<number>\d+))")


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One version of a registered model.

    Attributes:
        name: the model's.
        number: of the version, from 1.
        stage: `candidate`, `production` or `archived`.
        tags: what is recorded with it: its lineage, and its promotions.
        aliases: other names of it, which only MLflow has.
        created: when it was registered.
    """

    name: str
    number: int
    stage: Stage
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    created: datetime | None = None

    @property
    def reference(self) -> str:
        """How it is named for good, such as `photos/3`."""
        return f"{self.name}/{self.number}"


class ModelRegistry(Protocol):
    """What is asked of a registry. Every method raises a SparsightError where the registry can't be reached."""

    @property
    def where(self) -> str:
        """Say to a person which registry this is."""

    def names(self) -> list[str]:
        """List the registered models, sorted."""

    def versions(self, name: str) -> list[ModelVersion]:
        """List a model's versions, oldest first; none where there is no such model."""

    def register(self, folder: Path, name: str, *, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Make a folder that MLflow opens the next version of a model. It begins as a candidate."""

    def promote(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Put a version into production; the one that was there goes to the archive. At no time is there none."""

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Record something with a version, over what was there under the same names."""

    def download(self, version: ModelVersion, folder: Path) -> None:
        """Fill an empty folder with a version's files."""


def open_registry(environment: Mapping[str, str] = os.environ) -> ModelRegistry:
    """Open the registry that MLFLOW_TRACKING_URI belongs to: `azureml://...` is a workspace's, others are MLflow's."""
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("azureml://"):
        from sparsight.stores.azureml_registry import AzureMLRegistry

        return AzureMLRegistry.of_tracking_uri(uri, environment)
    from sparsight.stores.mlflow_registry import MLflowRegistry

    return MLflowRegistry()


def is_reference(text: str) -> bool:
    """Say whether a text has the form of a registered model: `name@latest`, `name@production` or `name/3`."""
    return REFERENCE.fullmatch(text) is not None


def resolve(registry: ModelRegistry, reference: str) -> ModelVersion:
    """Find the version that a reference means.

    Args:
        registry: where to look.
        reference: `name/3`; `name@latest` (the highest version); `name@production`; `name@candidate` (the highest that
            was never promoted); `name@archived` (the one that was in production before); an alias of MLflow's.

    Raises:
        SparsightError: it is malformed, or there is no such version; the message says what there is.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise SparsightError(
            f"{reference!r} doesn't name a registered model; expected name@latest, name@alias or name/3."
        )
    versions = registry.versions(match["name"])
    if not versions:
        raise _unknown_name(registry, match["name"])
    known = _by_number(versions) if match["number"] else _by_alias(versions)
    wanted = str(int(match["number"])) if match["number"] else match["alias"]
    if wanted not in known:
        name, mark = match["name"], "/" if match["number"] else "@"
        has = ", ".join(f"{name}{mark}{each}" for each in list(known)[-10:])
        raise SparsightError(f"The registry has no {reference}; it has {has}.", hint=_listed(registry))
    return known[wanted]


def _by_number(versions: list[ModelVersion]) -> dict[str, ModelVersion]:
    return {str(version.number): version for version in versions}


def _by_alias(versions: list[ModelVersion]) -> dict[str, ModelVersion]:
    known = {"latest": versions[-1]}
    by_age = sorted(versions, key=lambda version: (version.tags.get(PROMOTED_AT, ""), version.number))
    aliases = {alias: version for version in versions for alias in version.aliases}
    return known | dict(sorted((aliases | {version.stage: version for version in by_age}).items()))


def _unknown_name(registry: ModelRegistry, name: str) -> SparsightError:
    names = registry.names()
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
    has = f"; the nearest it has: {', '.join(near)}" if near else "; it holds no model yet"
    return SparsightError(f"The registry has no model named {name!r}{has}.", hint=_listed(registry))


def _listed(registry: ModelRegistry) -> str:
    return f"All models are listed on the Models page of {registry.where}."


@contextmanager
def whole_model(folder: Path, lineage: str) -> Iterator[Path]:
    """Put together what is registered of a model artefact: its MLflow model, with manifest and lineage beside.

    It opens with MLflow, and, downloaded, as a model folder of ours.

    Args:
        folder: a finished model artefact.
        lineage: content of lineage.json.

    Raises:
        SparsightError: the folder holds no MLflow model.
    """
    if not (folder / MLFLOW_MODEL / "MLmodel").is_file():
        raise SparsightError(
            f"{folder} holds no {MLFLOW_MODEL} folder with an MLmodel file; expected a model artefact."
        )
    with TemporaryDirectory(prefix="sparsight-") as place:
        whole = Path(place) / "model"
        shutil.copytree(folder / MLFLOW_MODEL, whole)
        shutil.copyfile(folder / MANIFEST, whole / MANIFEST)
        (whole / "lineage.json").write_text(lineage, encoding="utf-8")
        yield whole
