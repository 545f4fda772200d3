"""Pre-training with SwAV: its schedule of frozen prototypes and queue, and what it says when it gets stuck."""

import math
import sys

from torch import Tensor

from sparsight.errors import SparsightError
from sparsight.models.swav import LEAST_EPSILON, SwAV
from sparsight.training.pretraining import Part, Pretrainer

_NEAR = 0.01
"""A loss is better than that of blind guessing from this part of it on."""
_WARNING_EPOCHS = 3
_STUCK_EPOCHS = 10
"""So many epochs in a row, the ones that can't tell yet left out, a training may tell nothing before it is ended."""


class SwAVTrainer(Pretrainer[SwAV]):
    """Trains a SwAV network on the crops of each image, two large ones first.

    Raises:
        SparsightError: a batch larger than the queue, too; and, from `fit`, a training that got stuck.
    """

    def compare(self, part: Part) -> tuple[Tensor, Tensor]:
        """Predict prototypes from crops."""
        own, epoch, task = self.own(part.batch), len(self.history), self.network.options
        crops = [self.view(part, number, own) for number in range(len(self.views))]
        full = self.steps_done * self.images_per_step >= task.queue_size > 0
        with self.mixed():
            loss, projections = self.model(
                crops,
                frozen=epoch < task.freeze_prototypes_epochs,
                with_queue=full and epoch >= task.queue_start_epoch,
                world=self.world,
            )
        return loss * self.weight(part.batch), projections

    def check(self) -> None:
        """Refuse a queue that can't hold a step."""
        images, queue_size = self.images_per_step, self.network.options.queue_size
        if 0 < queue_size < images:
            raise SparsightError(
                f"A step has {images} images; the queue of {queue_size} can't hold them.",
                hint="Raise queue_size, set it to 0 to do without a queue, or lower batch_size.",
            )

    def judge(self) -> None:
        """Warn where predictions tell nothing, and end the training where they do so for long.

        Raises:
            SparsightError: the loss has been that of blind guessing for many epochs.
        """
        epochs = self._stuck_epochs()
        if epochs < _WARNING_EPOCHS:
            return
        task, last = self.network.options, self.history[-1]
        found = (
            f"the loss has been {last.loss:.3f} or so for {epochs} epochs, no better than ln({task.prototypes}) = "
            f"{math.log(task.prototypes):.3f}, that of blind guessing (spread {last.spread:.2f})"
        )
        if epochs >= _STUCK_EPOCHS and task.stop_when_stuck:
            raise SparsightError(f"Pre-training is stuck: {found}.", hint=self._way_out())
        if self.world.is_leader:
            print(f"warning: {found}. {self._way_out()}", file=sys.stderr, flush=True)

    def _stuck_epochs(self) -> int:
        """Epochs in a row, up to the last, in which predictions told nothing; those that can't tell yet left out."""
        blind = math.log(self.network.options.prototypes)
        early = max(self.options.warmup_epochs, self.network.options.freeze_prototypes_epochs)
        count = 0
        for record in reversed(self.history[early:]):
            if record.loss < blind * (1 - _NEAR):
                break
            count += 1
        return count

    def _way_out(self) -> str:
        """Say what to change, the likeliest first."""
        task, options = self.network.options, self.options
        changes = []
        if task.epsilon > 2 * LEAST_EPSILON:
            changes.append(f"epsilon to {task.epsilon / 2:.2g}")
        changes.append(f"learning_rate to {options.learning_rate / 3:.2g}")
        if task.prototypes > self.images_per_step:
            changes.append(f"prototypes to {max(2, self.images_per_step)}, no more than the images of a step")
        if task.queue_size and task.queue_start_epoch < len(self.history):
            changes.append(f"queue_start_epoch to {len(self.history)}, so that the queue comes later")
        changes.append(f"freeze_prototypes_epochs to {2 * task.freeze_prototypes_epochs + 1}")
        return f"Set one of these at a time: {'; '.join(changes)}."
