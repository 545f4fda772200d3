"""What a local run leaves behind: one JSON record for the run, one for each step, written atomically."""

import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sparsight.data.artefact import write_text
from sparsight.errors import SparsightError

RecordT = TypeVar("RecordT", "RunRecord", "StepRecord")
FINISHED = frozenset({"done", "reused"})
_RUN, _STEP = "run.json", "step.json"


@dataclass(kw_only=True)
class StepRecord:
    """One step of a run. `outputs` holds, by name, path (below the runs folder), digest and the files' stamps."""

    name: str
    component: str
    status: str = "waiting"
    reason: str = ""
    reused_from: str = ""
    key: str = ""
    parts: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_code: int | None = None
    started: float = 0.0
    finished: float = 0.0


@dataclass(kw_only=True)
class RunRecord:
    """One run. `process` is the runner's process id and its start time, which together name it for good."""

    id: str
    pipeline: str
    file: str
    settings: dict[str, Any]
    steps: list[str]
    status: str = "running"
    process: tuple[int, float] = (0, 0.0)
    started: float = 0.0
    finished: float = 0.0
    code_version: str = ""
    lock: str = ""
    versions: dict[str, str] = field(default_factory=dict)


class RunFolder:
    """The folder of a run: `run.json`, and for each step `<step>/{step.json,inputs.json,log.txt,outputs/}`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """Name the run."""
        return self.path.name

    def step(self, name: str) -> Path:
        """Find a step's folder."""
        return self.path / name

    def log(self, name: str) -> Path:
        """Find a step's log."""
        return self.path / name / "log.txt"

    def read(self) -> RunRecord:
        """Read the run's record.

        Raises:
            SparsightError: there is none, or another version of this program wrote it.
        """
        return _read(self.path / _RUN, RunRecord)

    def write(self, record: RunRecord) -> None:
        """Write the run's record."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / _RUN, json.dumps(dataclasses.asdict(record), indent=2) + "\n")

    def read_step(self, name: str) -> StepRecord | None:
        """Read a step's record; None when it never got so far."""
        path = self.step(name) / _STEP
        return _read(path, StepRecord) if path.is_file() else None

    def write_step(self, record: StepRecord) -> None:
        """Write a step's record."""
        self.step(record.name).mkdir(parents=True, exist_ok=True)
        write_text(self.step(record.name) / _STEP, json.dumps(dataclasses.asdict(record), indent=1) + "\n")


def _read(path: Path, kind: type[RecordT]) -> RecordT:
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SparsightError(f"{path} can't be read as the record of a run: {error}.") from error


def status_of(record: RunRecord) -> str:
    """Name a run's status; one whose runner is gone without a word is `killed`."""
    from sparsight.local.processes import is_running

    return "killed" if record.status == "running" and not is_running(*record.process) else record.status


def all_runs(runs: Path) -> Iterator[RunFolder]:
    """List the runs, newest first."""
    if runs.is_dir():
        for path in sorted(runs.iterdir(), reverse=True):
            if (path / _RUN).is_file():
                yield RunFolder(path)


def find_run(runs: Path, name: str) -> RunFolder:
    """Find a run by its id or its folder; `latest` is the newest.

    Raises:
        SparsightError: there is no such run.
    """
    folders = list(all_runs(runs))
    if name == "latest" and folders:
        return folders[0]
    wanted = Path(name).name
    for folder in folders:
        if folder.id == wanted:
            return folder
    newest = f" The newest is {folders[0].id}." if folders else " There are no runs yet."
    raise SparsightError(f"There is no run {name!r} in {runs}.{newest}", hint="List them: python execute.py runs")


def new_run(runs: Path, pipeline: str) -> RunFolder:
    """Make the folder of a new run, named after time and pipeline."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{pipeline}"
    for name in [stem, *(f"{stem}-{count}" for count in range(2, 100))]:
        try:
            (runs / name).mkdir(parents=True)
        except FileExistsError:
            continue
        return RunFolder(runs / name)
    raise SparsightError(f"{runs / stem} and 98 more names after it are taken.", hint="Wait a second and try again.")
