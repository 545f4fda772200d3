"""Reads an export into the notebook: which photos it has, and what their annotators say in the end."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from sparsight.data.label_review import LabelReview
from sparsight.data.labels import Path, deepest
from sparsight.data.sync.annotators import Annotators
from sparsight.data.sync.export import Annotation, Task
from sparsight.data.sync.notebook import Notebook
from sparsight.data.sync.opinions import Opinion, opinion_of
from sparsight.data.sync.report import SyncReport
from sparsight.data.taxonomy import Taxonomy
from sparsight.errors import SparsightError

UnknownLabels = Literal["keep", "refuse", "drop"]
UNKNOWN_LABELS: tuple[str, ...] = get_args(UnknownLabels)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How an export is read.

    Attributes:
        containers: whose photos are synced; tasks of others are passed over.
        annotators: how people are called, and who reviews.
        taxonomy: replaces retired labels; None takes all as they are.
        unknown_labels: what becomes of labels that the taxonomy doesn't know.
    """

    containers: Sequence[str]
    annotators: Annotators
    taxonomy: Taxonomy | None = None
    unknown_labels: UnknownLabels = "keep"


class Reader:
    """Reads the tasks of one project into a notebook, and counts what is taken.

    Args:
        notebook: takes photos and opinions.
        reading: how.
        report: takes the counts.
    """

    def __init__(self, notebook: Notebook, reading: Reading, report: SyncReport) -> None:
        self.notebook, self.reading, self.report = notebook, reading, report
        if reading.taxonomy is not None:
            report.labels = LabelReview(reading.taxonomy)
        self.projects: set[int | None] = set()
        self.said = 0

    def read(self, tasks: Iterable[Task]) -> None:
        """Read to the end of the tasks.

        Raises:
            SparsightError: they are of several projects, an annotator can't be named, or an unknown label is refused.
        """
        for task in tasks:
            self._task(task)
        if self.report.labels is not None and self.reading.unknown_labels == "refuse":
            self.report.labels.refuse_unknown("To take such labels as they are, set unknown_labels to 'keep'.")
        self.report.annotators, self.report.taken = self.notebook.counts()
        self._skip("annotations that a later one of the same annotator replaced", self.said - self.report.taken)

    def _task(self, task: Task) -> None:
        self.report.tasks += 1
        self.projects.add(task.project)
        if len(self.projects) > 1:
            told = " and ".join(sorted(map(str, self.projects)))
            raise SparsightError(
                f"The export is of several projects ({told}).", hint="Export and sync each on its own."
            )
        photo = self._photo(task)
        if photo is None:
            return
        if not self.notebook.add_photo(*photo):
            self._skip("tasks that were joined with another one of the same photo")
        for annotation in task.annotations:
            self.notebook.add_opinion(*photo, self._opinion(annotation))

    def _photo(self, task: Task) -> tuple[str, str] | None:
        container, photo = (task.data.get(name) for name in ("container", "id"))
        if not isinstance(container, str) or not isinstance(photo, str | int):
            self._skip("tasks whose data lack the photo's id or container")
        elif container not in self.reading.containers:
            self._skip("tasks of other containers")
        else:
            return container, str(photo)
        return None

    def _opinion(self, annotation: Annotation) -> Opinion:
        opinion = opinion_of(annotation, self.reading.annotators)
        self.report.annotations += 1
        if annotation.was_cancelled:
            self._skip("annotations that were cancelled")
        elif not opinion.paths:
            self._skip("annotations that are empty")
        elif self.report.labels is not None:
            opinion = replace(opinion, paths=tuple(deepest(self._today(opinion.paths, self.report.labels))))
            if not opinion.paths:
                self._skip("annotations all of whose labels are dropped")
        self.said += bool(opinion.paths)
        return opinion

    def _today(self, paths: Iterable[Path], labels: LabelReview) -> Iterator[Path]:
        for path in paths:
            node, standing = labels.take(path)
            if node is not None:
                yield node
            elif standing == "unknown" and self.reading.unknown_labels == "keep":
                yield path

    def _skip(self, reason: str, count: int = 1) -> None:
        if count:
            self.report.skipped[reason] += count
