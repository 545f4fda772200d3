"""Schedules: a pipeline that a workspace starts by itself, again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.cloud.job import Job, make_known
from sparsight.cloud.workspace import Workspace
from sparsight.errors import SparsightError
from sparsight.local.files import read_yaml
from sparsight.stores.azureml import quiet

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule's YAML, in Azure ML's schema.

    Args:
        content: azure-ai-ml's JobSchedule.
        pipeline: the YAML of the pipeline that it starts.
        settings: inputs that it gives the pipeline, as NAME=VALUE.
    """

    content: Any
    pipeline: Path
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in the workspace."""
        return str(self.content.name)


def load_schedule(file: Path) -> Schedule:
    """Load a schedule's YAML.

    Its `create_job` is the path of a pipeline, or a mapping with `job`, that path, and `inputs`.

    Raises:
        SparsightError: azure-ai-ml can't load it, or it starts something else.
    """
    action = read_yaml(file).get("create_job")
    path = action.get("job") if isinstance(action, dict) else action
    if not isinstance(path, str):
        raise SparsightError(
            f"{file}: create_job is {action!r}; expected the path of a pipeline's YAML, or job: that path, and inputs."
        )
    given = _inputs(file, action) if isinstance(action, dict) else {}
    try:
        with quiet():
            from azure.ai.ml.entities._load_functions import load_schedule as load

            content = load(file)
    except Exception as error:
        raise SparsightError(f"azure-ai-ml can't load the schedule {file}: {error}") from error
    pipeline = (file.parent / path.removeprefix("file:")).resolve()
    return Schedule(content=content, pipeline=pipeline, settings=tuple(f"{key}={given[key]}" for key in given))


def _inputs(file: Path, action: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what `create_job` gives the pipeline; refuse what would be left out of the job."""
    if others := sorted(set(action) - {"type", "job", "inputs"}):
        raise SparsightError(
            f"{file}: create_job has {', '.join(others)}; only type, job and inputs are taken here.",
            hint="Write the rest into the pipeline's YAML.",
        )
    given = action.get("inputs") or {}
    if not isinstance(given, dict) or any(isinstance(value, dict | list) for value in given.values()):
        raise SparsightError(f"{file}: inputs of create_job are {given!r}; expected plain values by name.")
    return given


def put_schedule(client: "MLClient", schedule: Schedule, job: Job, workspace: Workspace) -> Any:
    """Put a schedule into force, in place of an older one of its name.

    Args:
        client: of the workspace.
        schedule: when to start.
        job: what to start, as `prepare` gives it; every start gets a name of its own.
        workspace: where.

    Returns:
        The schedule as the workspace took it.

    Raises:
        SparsightError: a compute doesn't exist, or can't give nodes.
    """
    make_known(client, job, workspace)
    job.content.name = None
    schedule.content.create_job = job.content
    with quiet():
        return client.schedules.begin_create_or_update(schedule.content).result()


def stop_schedule(client: "MLClient", name: str) -> None:
    """Put a schedule out of force; jobs that it has started go on."""
    with quiet():
        client.schedules.begin_disable(name).result()
