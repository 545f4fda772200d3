"""Experiment tracking with MLflow, the same on a laptop and inside an Azure ML job."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from mlflow.entities import Metric

METRICS_PER_REQUEST = 1000
"""As many as MLflow takes at once."""
SECONDS_BETWEEN_REQUESTS = 2.0
KEPT_EPOCH = "kept_epoch"
"""Metric of a finished training: the epoch, from 1, whose weights the model has."""


class History:
    """Numbers of steps that are shorter than a request to the server: kept, and sent together every other second."""

    def __init__(self, tracker: "Tracker") -> None:
        self._tracker = tracker
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of one step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(value), now, step) for name, value in values.items()]
        if time.monotonic() - self._sent >= SECONDS_BETWEEN_REQUESTS:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        import mlflow

        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), METRICS_PER_REQUEST):
            mlflow.MlflowClient().log_batch(self._tracker.run_id, metrics=waiting[start : start + METRICS_PER_REQUEST])
        self._sent = time.monotonic()


class Tracker:
    """An active MLflow run: metrics over steps, folders of artefacts.

    Args:
        parameters: to log when a run is started.
        stack: ends the run.
        run: name and tags of a run that is started.

    Attributes:
        run_id: the run; empty in a process that has none.
    """

    def __init__(self, parameters: Mapping[str, Any], stack: ExitStack, **run: Any) -> None:
        self.run_id = ""
        self._parameters, self._stack, self._run = parameters, stack, run

    def start(self) -> str:
        """Start a run unless there is one, and return its id."""
        import mlflow

        if not self.run_id:
            self.run_id = self._stack.enter_context(mlflow.start_run(**self._run)).info.run_id
            mlflow.log_params(dict(self._parameters))
        return self.run_id

    def take_over(self, run_id: str) -> None:
        """Go on with the run of a leader that was lost; does nothing in a process that has a run."""
        import mlflow

        if not self.run_id:
            self.run_id = self._stack.enter_context(mlflow.start_run(run_id=run_id)).info.run_id

    def metrics(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Log numbers, all at the same step."""
        import mlflow

        mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    @contextmanager
    def history(self) -> Iterator["History"]:
        """Open a history of short steps; what it still holds is sent when the block ends, also by an error."""
        history = History(self)
        try:
            yield history
        finally:
            history.flush()

    def folder(self, folder: Path, name: str) -> None:
        """Log a folder's files as artefacts under `name`."""
        import mlflow

        mlflow.log_artifacts(str(folder), name)


@contextmanager
def tracked_run(step: str, parameters: Mapping[str, Any], *, leads: bool = True) -> Iterator[Tracker]:
    """Open an MLflow run named after the step and log its parameters.

    Of several processes the one that leads does so. The others get a tracker without a run: it starts one, or takes the
    leader's over, should that one be lost.

    Where to log comes from the environment alone (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, on Azure ML also
    MLFLOW_RUN_ID), so that a job logs into the run that Azure ML opened for it.

    Raises:
        SparsightError: MLflow can't be reached, or refuses, here or in the block.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    tags = {"sparsight.step": step}
    if run := os.environ.get("SPARSIGHT_RUN") or os.environ.get("AZUREML_ROOT_RUN_ID"):
        tags["sparsight.run"] = run
    if version := os.environ.get("SPARSIGHT_CODE_VERSION"):
        tags["sparsight.code_version"] = version
    try:
        with ExitStack() as stack:
            named = None if os.environ.get("MLFLOW_RUN_ID") else step  # a run that was opened for it has its name
            tracker = Tracker(parameters, stack, run_name=named, tags=tags)
            if leads:
                tracker.start()
            yield tracker
    except MlflowException as error:
        raise SparsightError(
            f"MLflow at {mlflow.get_tracking_uri()} says: {error}",
            hint="Check that MLFLOW_TRACKING_URI names a running MLflow server. What is trained is kept for resuming.",
        ) from error
