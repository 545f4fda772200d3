"""MLflow's own model registry: the alias `production` says which version is in use."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.errors import SparsightError
from sparsight.stores.registry import STAGE_TAG, ModelVersion, Stage

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT = "model"
PRODUCTION = "production"


class MLflowRegistry:
    """The registry of the MLflow server that MLFLOW_TRACKING_URI names."""

    @property
    def where(self) -> str:
        """The server's address."""
        import mlflow

        return str(mlflow.get_tracking_uri())

    def names(self) -> list[str]:
        """List the registered models, sorted."""
        with _client("list the models") as client:
            return sorted(model.name for model in client.search_registered_models(max_results=1000))

    def versions(self, name: str) -> list[ModelVersion]:
        """List a model's versions, oldest first; none where there is no such model."""
        with _client(f"look up {name}") as client:
            found = client.search_model_versions(f"name='{name}'")
            by_alias = client.get_registered_model(name).aliases if found else {}
        return sorted((_version(each, by_alias) for each in found), key=lambda version: version.number)

    def register(self, folder: Path, name: str, *, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Log a folder as artefact `model` of a run, and make that the model's next version.

        MLflow's own `log_model` isn't used: it wants the model to be made while it is logged.
        """
        with _client(f"register {name}") as client:
            client.log_artifacts(run_id, str(folder), ARTIFACT)
            _ensure_registered(client, name)
            made = client.create_model_version(name, f"runs:/{run_id}/{ARTIFACT}", run_id, tags=dict(tags))
        return _version(made, {}, tags)

    def promote(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Let the alias point at another version, which it does in one go; tags tell people of it."""
        name, number = version.name, str(version.number)
        with _client(f"promote {version.reference}") as client:
            before = client.get_registered_model(name).aliases.get(PRODUCTION)
            for key, value in tags.items():
                client.set_model_version_tag(name, number, key, value)
            client.set_registered_model_alias(name, PRODUCTION, number)
            client.set_model_version_tag(name, number, STAGE_TAG, PRODUCTION)
            if before and str(before) != number:
                client.set_model_version_tag(name, str(before), STAGE_TAG, "archived")

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Record something with a version."""
        with _client(f"tag {version.reference}") as client:
            for key, value in tags.items():
                client.set_model_version_tag(version.name, str(version.number), key, value)

    def download(self, version: ModelVersion, folder: Path) -> None:
        """Fill a folder with a version's files."""
        from mlflow.artifacts import download_artifacts

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a line for each of a model's files
        with _client(f"download {version.reference}"):
            download_artifacts(artifact_uri=f"models:/{version.reference}", dst_path=str(folder))


def _version(found: Any, by_alias: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> ModelVersion:
    number = int(found.version)
    aliases = tuple(sorted(alias for alias, each in by_alias.items() if int(each) == number))
    told = dict(found.tags) if tags is None else dict(tags)
    return ModelVersion(
        name=found.name,
        number=number,
        stage=_stage(aliases, told),
        tags=told,
        aliases=aliases,
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )


def _stage(aliases: tuple[str, ...], tags: Mapping[str, str]) -> Stage:
    """The alias decides: a tag may be left over from a promotion that was cut off, or from an alias moved by hand."""
    if PRODUCTION in aliases:
        return "production"
    return "archived" if tags.get(STAGE_TAG) else "candidate"


def _ensure_registered(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


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
