"""The MLflow runs of trials, nested under that of their tuning: each trial's step logs into the one opened for it."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sparsight.training.tracking import KEPT_EPOCH

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass
class TrackedTrials:
    """Opens and reads the runs of trials.

    Args:
        parent: the tuning's run.
        metric: that trials are judged by.
    """

    parent: str
    metric: str

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's, of the server that the environment names."""
        from mlflow import MlflowClient

        return MlflowClient()

    def open(self, number: int, earlier: str | None) -> str:
        """Open the run of a trial, or the one that it had before it was interrupted, and return its id."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        tags = {MLFLOW_PARENT_RUN_ID: self.parent, "sparsight.trial": str(number)}
        if earlier:
            try:
                for name, value in tags.items():
                    self.client.set_tag(earlier, name, value)
                return earlier
            except MlflowException:  # of another server than today's
                pass
        experiment = self.client.get_run(self.parent).info.experiment_id
        return str(self.client.create_run(experiment, tags=tags, run_name=f"trial {number}").info.run_id)

    def values(self, run_id: str) -> dict[int, float]:
        """Read the metric by epoch, from 1; what is measured once at the end, as on test images, is no epoch's."""
        history = self.client.get_metric_history(run_id, self.metric)
        return {measured.step: measured.value for measured in history if measured.step >= 1}

    def final(self, run_id: str) -> float | None:
        """Read the metric at the epoch whose weights the model has, or last before it; None where there is none."""
        kept = self.client.get_run(run_id).data.metrics.get(KEPT_EPOCH)
        values = {epoch: value for epoch, value in self.values(run_id).items() if kept and epoch <= kept}
        return values[max(values)] if values else None

    def others(self, run_id: str) -> list[str]:
        """Name what a run tracks over epochs."""
        measured = self.client.get_run(run_id).data.metrics
        return sorted(
            name for name in measured if any(each.step >= 1 for each in self.client.get_metric_history(run_id, name))
        )

    def end(self, run_id: str, status: str) -> None:
        """End the run of a process that didn't live to do so: `KILLED` or `FAILED`."""
        self.client.set_terminated(run_id, status)
