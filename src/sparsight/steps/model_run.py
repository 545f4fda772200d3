"""What steps that train a model share: when to train, what is tracked, and that the model is registered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sparsight.data.artefact import Draft
    from sparsight.data.packed import PackedImages
    from sparsight.training.distributed import Processes
    from sparsight.training.publishing import Measured
    from sparsight.training.tracking import Tracker

_SAFE_TO_CHANGE = {"processes", "instances", "commit_every"}
"""How processes are spread over nodes, and how they are kept safe: none of it decides about a model."""


class Training(Protocol):
    """The arguments of a step that trains in several processes."""

    @property
    def processes(self) -> int:
        """On each node."""

    @property
    def instances(self) -> int:
        """Nodes."""

    def hyperparameters(self) -> dict[str, Any]:
        """Everything but where data comes from and goes to."""


def made_by(arguments: Training, images: "PackedImages") -> dict[str, Any]:
    """Gather what decides about a model that is trained on some images."""
    hyperparameters = {
        name: value for name, value in arguments.hyperparameters().items() if name not in _SAFE_TO_CHANGE
    }
    processes = arguments.processes * arguments.instances
    return {**hyperparameters, "processes": processes, "images": dict(images.manifest.parameters)}


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """One run of a step that trains a model.

    Attributes:
        folder: of the model.
        name: to register it under.
        step: the component.
        made_by: what decides about the model.
        images: what it is trained on.
        world: the processes that train it.
        tracker: of the run.
        measure: tells how good the finished model is.
        base_model: what it stands on.
    """

    folder: Path
    name: str
    step: str
    made_by: Mapping[str, Any]
    images: "PackedImages"
    world: "Processes"
    tracker: "Tracker"
    measure: "Callable[[], Measured]"
    base_model: str = ""

    def carry_out(self, train: Callable[[], None]) -> None:
        """Train where the model isn't there yet; where it is, register it."""
        from sparsight.data.artefact import is_finished
        from sparsight.training.distributed import agreed

        if not agreed(self.world, is_finished(self.folder, "model", self.made_by)):
            train()
        elif self.world.is_leader:
            self._register()

    def end(self, run_id: str, write: Callable[[], None]) -> None:
        """Write the model unless a leader that was lost has, and register it.

        Args:
            run_id: the training's.
            write: writes the model artefact.
        """
        from sparsight.data.artefact import is_finished

        self.tracker.take_over(run_id)
        if not is_finished(self.folder, "model", self.made_by):
            write()
        self._register()

    def fit(self, trainer: Any, fill: "Callable[[Draft], dict[str, float]]", **others: Any) -> None:
        """Train to the end, from the last checkpoint where there is one, and end the run.

        Args:
            trainer: a `Resumable`, with `fit`.
            fill: puts the model and its report into the artefact, and gives the final numbers by name.
            others: go to the trainer's `fit`.
        """
        from sparsight.data.artefact import begin_artefact, draft_folder, new_artefact
        from sparsight.training.tracking import KEPT_EPOCH

        def begin() -> str:
            begin_artefact(self.folder, "model", self.made_by, resume=True)
            return self.tracker.start()

        def report(record: Any) -> None:
            self.tracker.take_over(trainer.run_id)
            self.tracker.metrics(record.metrics(), step=record.epoch)

        def write() -> None:
            with new_artefact(self.folder, "model", self.made_by, resume=True) as draft:
                final = fill(draft)
                told = {f"final_{name}": value for name, value in final.items()}
                self.tracker.metrics(told | {KEPT_EPOCH: trainer.kept_epoch})
                trainer.remove_checkpoint(draft.folder)
            self.tracker.folder(self.folder / "report", "report")

        trainer.fit(
            draft_folder(self.folder),
            report=report,
            begin=begin,
            finish=lambda: self.end(trainer.run_id, write),
            **others,
        )

    def _register(self) -> None:
        from sparsight.training.publishing import publish

        publish(
            self.folder,
            self.name,
            step=self.step,
            run_id=self.tracker.run_id,
            images=self.images,
            measured=self.measure(),
            base_model=self.base_model,
        )
