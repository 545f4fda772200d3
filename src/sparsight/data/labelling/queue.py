"""How far the labelling of a project has come."""

from collections.abc import Iterable
from dataclasses import dataclass

from sparsight.stores.annotations import Task


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Tasks of a project, counted.

    Attributes:
        done: labelled by as many people as should.
        begun: labelled by some, but not by enough.
        waiting: that nobody has labelled yet.
        annotations: given to all of them together.
    """

    done: int
    begun: int
    waiting: int
    annotations: int

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> "Queue":
        """Count tasks, one at a time."""
        done, begun, waiting, annotations = 0, 0, 0, 0
        for task in tasks:
            annotations += task.annotations
            done += task.is_done
            begun += not task.is_done and task.annotations > 0
            waiting += not task.is_done and task.annotations == 0
        return cls(done=done, begun=begun, waiting=waiting, annotations=annotations)

    def __str__(self) -> str:
        total = self.done + self.begun + self.waiting
        return (
            f"{total:,} tasks: {self.done:,} done, {self.begun:,} begun, {self.waiting:,} waiting; "
            f"{self.annotations:,} annotations"
        )
