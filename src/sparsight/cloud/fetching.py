"""Brings a job's outputs and logs back, by the names of its steps."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsight.cloud.following import ENDED, Follower, JobState
from sparsight.errors import SparsightError
from sparsight.local.problems import nearest
from sparsight.local.records import RunFolder
from sparsight.stores.azureml import quiet

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from sparsight.local.records import StepRecord


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came back of one step: its log, and its outputs by name; nothing new of those that were here before."""

    step: str
    status: str
    log: Path | None
    outputs: dict[str, Path]


def fetch(client: "MLClient", follower: Follower, step: str | None = None) -> list[Fetched]:
    """Download what a job has made so far.

    An output appears under its name only when it is whole; one that is here already isn't downloaded again. Steps that
    haven't ended give their log as far as it goes.

    Args:
        client: of the workspace.
        follower: of the job; its folder takes `<step>/log.txt` and `<step>/outputs/<name>/`.
        step: one step's name; by default all.

    Raises:
        SparsightError: the job has no such step.
    """
    state = follower.state()
    if step is not None and step not in state.steps:
        raise SparsightError(
            f"{follower.name} has no step {step!r} that was begun{nearest(step, state.steps)}",
            hint=f"See its steps: python execute.py jobs {follower.name}",
        )
    names = [step] if step else list(state.steps)
    return [_fetch_step(client, follower.folder, state, name) for name in names]


def _fetch_step(client: "MLClient", folder: RunFolder, state: JobState, name: str) -> Fetched:
    record: StepRecord = state.steps[name]
    outputs = folder.step(name) / "outputs"
    if record.status in ENDED | {"reused"} and not outputs.is_dir():
        draft = folder.step(name) / ".outputs.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with quiet():
            client.jobs.download(state.jobs[name], download_path=draft, all=True)
        named = draft / "named-outputs"
        if named.is_dir():
            named.replace(outputs)
        _keep_log(draft, folder.log(name))
        shutil.rmtree(draft)
    log = folder.log(name)
    return Fetched(
        step=name,
        status=record.status,
        log=log if log.is_file() else None,
        outputs={path.name: path for path in sorted(outputs.glob("*"))},
    )


def _keep_log(download: Path, log: Path) -> None:
    """Keep the log that came along, where none was read while the step ran."""
    found = next(iter(sorted((download / "artifacts").rglob("std_log*.txt"))), None)
    if found is not None and not log.is_file():
        found.replace(log)
