"""Experiment tracking with MLflow, the same on a laptop and inside an Azure ML job."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

METRICS_PER_REQUEST = 1000
"""As many as MLflow takes at once."""


class Tracker:
    """An active MLflow run: metrics over steps, folders of artefacts."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def metrics(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Log numbers, all at the same step."""
        import mlflow

        mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    def history(self, records: Sequence[Mapping[str, float]], *, first_step: int) -> None:
        """Log numbers of consecutive steps in few requests: an epoch on embeddings is shorter than a request."""
        import mlflow
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value), now, first_step + offset)
            for offset, record in enumerate(records)
            for name, value in record.items()
        ]
        for start in range(0, len(metrics), METRICS_PER_REQUEST):
            mlflow.MlflowClient().log_batch(self.run_id, metrics=metrics[start : start + METRICS_PER_REQUEST])

    def folder(self, folder: Path, name: str) -> None:
        """Log a folder's files as artefacts under `name`."""
        import mlflow

        mlflow.log_artifacts(str(folder), name)


@contextmanager
def tracked_run(step: str, parameters: Mapping[str, Any]) -> Iterator[Tracker]:
    """Open an MLflow run named after the step and log its parameters.

    Where to log comes from the environment alone (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, on Azure ML also
    MLFLOW_RUN_ID), so that a job logs into the run that Azure ML opened for it.
    """
    import mlflow

    tags = {"sparsight.step": step}
    if run := os.environ.get("SPARSIGHT_RUN"):
        tags["sparsight.run"] = run
    if version := os.environ.get("SPARSIGHT_CODE_VERSION"):
        tags["sparsight.code_version"] = version
    with mlflow.start_run(run_name=step, tags=tags) as active:
        mlflow.log_params(dict(parameters))
        yield Tracker(active.info.run_id)
