"""Registers what a step has trained, with where it is from: run, code, dataset, base model, and how good it was."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparsight.data.artefact import write_text
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.folder import WEIGHTS, named_network
from sparsight.stores.lineage import Lineage
from sparsight.stores.models import register_model
from sparsight.stores.registry import ModelRegistry, ModelVersion

TRIAL_LINEAGE = "SPARSIGHT_TRIAL_LINEAGE"
"""Variable that names a file for the lineage of a trial's model: the tuning registers the best of them itself."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Numbers by name, and for those of a test which images they are of; empty where none was made."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    test_digest: str = ""
    test_images: int = 0


def publish(
    folder: Path,
    name: str,
    *,
    step: str,
    run_id: str,
    images: PackedImages,
    measured: Measured,
    base_model: str = "",
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Register a model folder, tell of it, and return its reference, such as `photos/3`.

    A trial of a tuning writes down what it would register, and returns nothing.

    Args:
        folder: the finished model artefact.
        name: to register it under.
        step: the component that trained it.
        run_id: the MLflow run.
        images: what it was trained on.
        measured: how good it was.
        base_model: what it stands on.
        environment: names the pipeline's run and the code's version, of a trial the file for its lineage.

    Raises:
        SparsightError: the name isn't allowed, or the registry can't be reached.
    """
    (kind, network), origin = named_network(folder), images.origin
    lineage = Lineage(
        kind=kind,
        backbone=network,
        step=step,
        run_id=run_id,
        pipeline_run=environment.get("SPARSIGHT_RUN") or environment.get("AZUREML_ROOT_RUN_ID", ""),
        code_version=environment.get("SPARSIGHT_CODE_VERSION", ""),
        base_model=base_model,
        dataset_query=origin.query,
        dataset_counts=origin.counts,
        dataset_digest=origin.digest,
        metrics=measured.metrics,
        test_digest=measured.test_digest,
        test_images=measured.test_images,
        weights_digest=weights_digest(folder),
    )
    if trial := environment.get(TRIAL_LINEAGE):
        write_text(Path(trial), lineage.to_json())
        return ""
    reference = register_model(folder, name, lineage).reference
    print(f"Registered {reference}", flush=True)
    return reference


def weights_digest(folder: Path) -> str:
    """Hash the weights of a model folder."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_of(registry: ModelRegistry, name: str, folder: Path) -> ModelVersion:
    """Find the version that was registered from a model folder, the newest where there are several.

    Raises:
        SparsightError: there is none.
    """
    digest = weights_digest(folder)
    for version in reversed(registry.versions(name)):
        if Lineage.of_tags(version.tags).weights_digest == digest:
            return version
    raise SparsightError(
        f"No version of {name} in {registry.where} was registered from {folder}.",
        hint="Give the model_name under which it was trained.",
    )
