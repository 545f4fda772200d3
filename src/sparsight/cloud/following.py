"""Follows a job: states and logs of its steps, kept in a folder of the same layout as a local run's."""

import calendar
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sparsight.cloud.answers import SIGN_IN, is_transient, what_it_says
from sparsight.cloud.workspace import Workspace
from sparsight.errors import SparsightError
from sparsight.local.records import RunFolder, StepRecord
from sparsight.stores.azureml import quiet

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from sparsight.local.view import View

STATUS = {
    "Completed": "done",
    "Finished": "done",
    "Failed": "failed",
    "NotResponding": "failed",
    "Canceled": "cancelled",
    "Paused": "cancelled",
    "CancelRequested": "running",
    "Running": "running",
    "Finalizing": "running",
}
"""Azure ML's words for a state -> ours; what isn't here is waiting: NotStarted, Queued, Preparing, Starting, ..."""
ENDED = frozenset({"done", "failed", "cancelled"})
_LOG = re.compile(r"user_logs/std_log\D*0*(?:_ps)?\.txt")
"""The log of a step, of several processes that of the first; azure-ai-ml streams the same."""
INTERVAL = 5.0
"""Seconds from one question to the next."""
PATIENCE = 1800.0
"""Seconds without an answer after which following ends."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How a job is doing.

    Args:
        status: waiting, running, done, failed or cancelled.
        steps: its steps by name, in the order in which Azure ML lists them; those not begun yet may be missing.
        jobs: name of a step -> name of its own job.
        trouble: what Azure ML says of a job that failed before any step did.
    """

    status: str
    steps: Mapping[str, StepRecord]
    jobs: Mapping[str, str]
    trouble: str = ""


@dataclass
class Follower:
    """Asks a workspace about one job, again and again.

    Args:
        client: opens a client of the workspace; called again where the one at hand is signed out.
        workspace: where the job is.
        name: the job's name.
        folder: takes the logs, as a local run's folder does.
    """

    client: "Callable[[], MLClient]"
    workspace: Workspace
    name: str
    folder: RunFolder
    _opened: "MLClient | None" = field(default=None, init=False)
    _read: dict[str, int] = field(default_factory=dict, init=False)
    _kept: dict[str, StepRecord] = field(default_factory=dict, init=False)

    def state(self) -> JobState:
        """Ask once.

        Raises:
            AzureError, MlException: as Azure's client does.
        """
        self._opened = self._opened or self.client()
        with quiet():
            job = self._opened.jobs.get(self.name)
            children = self._children(job)
            status = status_of(job)
            steps, jobs = {}, {}
            for child in children:
                step = str(child.display_name or child.name)
                steps[step], jobs[step] = self._step(step, child), str(child.name)
            trouble = self._trouble(self.name) if status == "failed" and not _failed(steps) else ""
        return JobState(status=status, steps=steps, jobs=jobs, trouble=trouble)

    def _children(self, job: Any) -> list[Any]:
        """The jobs of a pipeline's steps; in the place of a pipeline within it those of its steps."""
        assert self._opened is not None  # noqa: S101 -- for the type checker
        nested = {name for name, node in (getattr(job, "jobs", None) or {}).items() if node.type == "pipeline"}
        found: list[Any] = []
        for child in filter(None, self._opened.jobs.list(parent_job_name=job.name)):
            if child.display_name in nested:
                found += filter(None, self._opened.jobs.list(parent_job_name=child.name))
            else:
                found.append(child)
        return found

    def follow(self, view: "View", records: dict[str, StepRecord]) -> JobState:
        """Ask until the job has ended, and show each change.

        A lost connection and an expired token are told, and asked through: the job goes on meanwhile.

        Args:
            view: shows the steps.
            records: the steps that the view shows; changed here.

        Raises:
            SparsightError: no answer for too long, or nobody is signed in any more.
        """
        answered, lost = time.monotonic(), False
        while True:
            try:
                state = self.state()
            except Exception as error:
                waited = time.monotonic() - answered
                self._bear(error, waited)
                if not lost:
                    view.say(f"No answer from {self.workspace.name}, asking again: {what_it_says(error)}")
                lost = True
            else:
                if lost:
                    view.say(f"{self.workspace.name} answers again.")
                answered, lost = time.monotonic(), False
                _show(state, view, records)
                if state.status in ENDED:
                    return state
            self._pause(view)

    def _pause(self, view: "View") -> None:
        until = time.monotonic() + INTERVAL
        while (left := until - time.monotonic()) > 0:
            view.tick()
            time.sleep(min(0.25, left))

    def _bear(self, error: Exception, waited: float) -> None:
        """Go on after trouble that passes; raise what doesn't."""
        from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

        goes_on = f"The job goes on; follow it again with: python execute.py jobs {self.name} --wait"
        expired = isinstance(error, HttpResponseError) and error.status_code == 401
        if isinstance(error, ClientAuthenticationError) and not expired:
            raise SparsightError(f"Nobody is signed in any more. {what_it_says(error)}", hint=f"{SIGN_IN} {goes_on}")
        if not expired and not is_transient(error):
            raise error
        if waited > PATIENCE:
            raise SparsightError(
                f"No answer for {waited / 60:.0f} minutes. {what_it_says(error)}", hint=goes_on
            ) from error
        self._opened = None  # a new client asks for a new token

    def _step(self, step: str, child: Any) -> StepRecord:
        kept = self._kept.get(step)
        if kept is not None and kept.status in ENDED | {"reused"}:
            return kept
        status = status_of(child)
        record = StepRecord(name=step, component="", status=status)
        if status == "waiting":
            record.reason = _words(_plain(child.status))
        else:
            details = self._details(str(child.name))
            record.started, record.finished = _seconds(details.start_time_utc), _seconds(details.end_time_utc)
            if (child.properties or {}).get("azureml.isreused") == "true":
                record.status, record.reason = "reused", "an earlier job's result fits"
            self._read_log(step, details.log_files or {})
            if status == "failed":
                record.reason = _error(details)
        self._kept[step] = record
        return record

    def _details(self, job: str) -> Any:
        assert self._opened is not None  # noqa: S101 -- for the type checker
        return self._opened.jobs._runs_operations.get_run_details(job)

    def _trouble(self, job: str) -> str:
        return _error(self._details(job))

    def _read_log(self, step: str, files: Mapping[str, str]) -> None:
        """Add what is new in a step's log to the file here."""
        url = next((files[name] for name in sorted(files) if _LOG.fullmatch(name)), None)
        if url is None:
            return
        from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
        from azure.storage.blob import BlobClient

        path, start = self.folder.log(step), self._read.get(step, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with BlobClient.from_blob_url(url) as blob:
                new = blob.download_blob(offset=start).readall()
        except ResourceNotFoundError:
            return
        except HttpResponseError as error:
            # Nothing new, or whoever asks may not read it: the job can be followed all the same.
            if error.status_code in {HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, HTTPStatus.FORBIDDEN}:
                return
            raise
        with path.open("ab" if start else "wb") as file:
            file.write(new)
        self._read[step] = start + len(new)


def status_of(job: Any) -> str:
    """How a job of azure-ai-ml's is doing, in our words."""
    return STATUS.get(_plain(job.status), "waiting")


def _plain(status: Any) -> str:
    """A state as Azure ML writes it; azure-ai-ml gives some as texts, others as members of an enumeration."""
    return str(getattr(status, "value", status))


def _failed(steps: Mapping[str, StepRecord]) -> bool:
    return any(step.status == "failed" for step in steps.values())


def _show(state: JobState, view: "View", records: dict[str, StepRecord]) -> None:
    for name, record in state.steps.items():
        before = records.get(name)
        records[name] = record
        if before is None or (before.status, before.reason) != (record.status, record.reason):
            view.changed(record)


def _error(details: Any) -> str:
    inner = getattr(getattr(details, "error", None), "error", None)
    return str(getattr(inner, "message", "") or "").strip().partition("\n")[0]


def _words(status: str) -> str:
    """`NotStarted` -> `not started`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in status).strip()


def _seconds(moment: Any) -> float:
    return float(calendar.timegm(moment.utctimetuple())) if moment else 0.0
