"""Azure ML's model registry: it has no aliases, so a tag of the version says which is in production."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from sparsight.errors import SparsightError
from sparsight.stores.azureml import open_client, quiet, workspace_of_job
from sparsight.stores.registry import PROMOTED_AT, STAGE_TAG, ModelVersion, Stage

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_URI = re.compile(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/[^/]+/workspaces/([^/?]+)", re.IGNORECASE)
_ATTEMPTS = 8
"""Steps that run side by side may take the same next number; all but one of them try again."""


class AzureMLRegistry:
    """The registry of an Azure ML workspace.

    Args:
        client: of the workspace.
    """

    def __init__(self, client: "MLClient") -> None:
        self.client = client

    @classmethod
    def of_tracking_uri(cls, uri: str, environment: Mapping[str, str] = os.environ) -> Self:
        """Open the registry of the workspace in which a job runs, else of the one that a tracking URI names.

        Raises:
            SparsightError: neither says which workspace is meant.
        """
        in_job, match = workspace_of_job(environment), _URI.search(uri)
        if in_job:
            return cls(open_client(*in_job))
        if match is None:
            raise SparsightError(
                f"MLFLOW_TRACKING_URI is {uri!r}, which names no workspace.",
                hint="Take the one that `az ml workspace show --query mlflow_tracking_uri` prints.",
            )
        return cls(open_client(match[1], match[2], match[3]))

    @property
    def where(self) -> str:
        """The workspace's name."""
        return f"workspace {self.client.workspace_name}"

    def names(self) -> list[str]:
        """List the registered models, sorted."""
        with self._told("list the models"):
            return sorted(str(model.name) for model in self.client.models.list())

    def versions(self, name: str) -> list[ModelVersion]:
        """List a model's versions, oldest first; none where there is no such model.

        Versions that others gave names other than numbers are passed over.
        """
        from azure.core.exceptions import ResourceNotFoundError

        with self._told(f"look up {name}"):
            try:
                found = [model for model in self.client.models.list(name=name) if str(model.version).isdecimal()]
            except ResourceNotFoundError:
                return []
        versions = sorted(map(_version, found), key=lambda version: version.number)
        return _one_in_production(versions)

    def register(self, folder: Path, name: str, *, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Upload a folder and make it the model's next version; its lineage are properties, which nobody can change."""
        with self._told(f"register {name}"):
            return _version(self._next_version(folder, name, dict(tags)))

    def _next_version(self, folder: Path, name: str, properties: dict[str, str]) -> Any:
        from azure.ai.ml.entities import Model
        from azure.ai.ml.exceptions import AssetPathException
        from azure.core.exceptions import HttpResponseError

        attempts = 0
        while True:
            # A model object remembers the number that it was refused, so each attempt takes a new one.
            model = Model(path=str(folder), name=name, type="mlflow_model", properties=properties)
            try:
                return self.client.models.create_or_update(model)
            except (AssetPathException, HttpResponseError) as error:
                attempts += 1
                if attempts == _ATTEMPTS or not _is_taken(error):
                    raise

    def promote(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Tag a version, then take the tag of the one before; in between the newer promotion counts."""
        before = [each for each in self.versions(version.name) if each.tags.get(STAGE_TAG) == "production"]
        with self._told(f"promote {version.reference}"):
            self._tag(version, {**tags, STAGE_TAG: "production"})
            for each in before:
                if each.number != version.number:
                    self._tag(each, {STAGE_TAG: "archived"})

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Record something with a version."""
        with self._told(f"tag {version.reference}"):
            self._tag(version, tags)

    def _tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        model = self.client.models.get(version.name, str(version.number))
        model.tags = {**(model.tags or {}), **tags}
        self.client.models.create_or_update(model)

    def download(self, version: ModelVersion, folder: Path) -> None:
        """Fill a folder with a version's files."""
        with self._told(f"download {version.reference}"), TemporaryDirectory(dir=folder) as place:
            self.client.models.download(version.name, str(version.number), download_path=place)
            for entry in _root(Path(place)).iterdir():
                shutil.move(entry, folder / entry.name)

    @contextlib.contextmanager
    def _told(self, purpose: str) -> Iterator[None]:
        """Keep the SDK's chatter off the screen, and tell what Azure refuses to a person."""
        from azure.ai.ml.exceptions import MlException
        from azure.core.exceptions import AzureError

        try:
            with quiet():
                yield
        except (AzureError, MlException) as error:
            raise _refused(f"Couldn't {purpose} in {self.where}", error) from error


def _version(model: Any) -> ModelVersion:
    tags = {**(model.properties or {}), **(model.tags or {})}
    stage: Stage = tags[STAGE_TAG] if tags.get(STAGE_TAG) in {"production", "archived"} else "candidate"
    made = model.creation_context.created_at if model.creation_context else None
    return ModelVersion(name=model.name, number=int(model.version), stage=stage, tags=tags, created=made)


def _one_in_production(versions: list[ModelVersion]) -> list[ModelVersion]:
    """Where a promotion was cut off, two carry the tag; the one that was promoted last counts."""
    tagged = [version for version in versions if version.stage == "production"]
    last = max(tagged, key=lambda version: version.tags.get(PROMOTED_AT, ""), default=None)
    return [replace(each, stage="archived") if each in tagged and each is not last else each for each in versions]


def _is_taken(error: Exception) -> bool:
    """Whether a number was refused since another version has it: one with other files, which can't be replaced."""
    from azure.ai.ml.exceptions import AssetPathException

    # The SDK turns this refusal into an exception of its own only where the answer has no further lines.
    says_so = isinstance(error, AssetPathException) or "Asset paths cannot be updated" in str(error)
    return says_so or getattr(error, "status_code", None) == HTTPStatus.CONFLICT


def _root(folder: Path) -> Path:
    """Find the model's own folder; the SDK puts it below folders of its own naming."""
    return next((path.parent for path in sorted(folder.rglob("MLmodel"), key=lambda path: len(path.parts))), folder)


def _refused(problem: str, error: Exception) -> SparsightError:
    from azure.core.exceptions import ClientAuthenticationError

    status = getattr(error, "status_code", None)
    told = next(iter(str(getattr(error, "message", None) or error).splitlines()), type(error).__name__).rstrip(".")
    hint = ""
    if isinstance(error, ClientAuthenticationError) or status == HTTPStatus.UNAUTHORIZED:
        hint = "Sign in with `az login`; in a job, give its step or cluster an identity."
    elif status == HTTPStatus.FORBIDDEN:
        hint = "Whoever asks, you or the job's identity, needs the role AzureML Data Scientist on the workspace."
    return SparsightError(f"{problem}: {told}.", hint=hint)
