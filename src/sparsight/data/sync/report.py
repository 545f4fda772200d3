"""What a sync did, counted: in a few sentences for people, and as JSON."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sparsight.data.artefact import new_artefact, write_text
from sparsight.data.label_review import LabelReview

REPORT, SUMMARY = "report.json", "summary.txt"


@dataclass(kw_only=True)
class SyncReport:
    """Counts of one sync. Printed, it is a sentence or a few.

    Attributes:
        project: of Label Studio.
        dry_run: whether nothing was to be written; then what follows would have been.
        tasks: read.
        annotations: read, without drafts.
        annotators: who said something.
        taken: annotations that stand: of each annotator about each photo the last, where it says something.
        skipped: tasks and annotations not taken, by reason.
        missing: photos of the export that have no document.
        documents: read.
        changed: documents written.
        cleared: of these, documents that lost all their annotations of this project.
        busy: documents that others kept changing, left as they are.
        labels: how the labels stood to the taxonomy, where one was given.
    """

    project: str
    dry_run: bool = False
    tasks: int = 0
    annotations: int = 0
    annotators: int = 0
    taken: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    documents: int = 0
    changed: int = 0
    cleared: int = 0
    busy: int = 0
    labels: LabelReview | None = None

    def counts(self) -> dict[str, int]:
        """The numbers alone."""
        names = ("tasks", "annotations", "annotators", "taken", "missing", "documents", "changed", "cleared", "busy")
        return {name: getattr(self, name) for name in names} | {"unchanged": self.documents - self.changed - self.busy}

    def __str__(self) -> str:
        counts = self.counts()
        would = "would be " if self.dry_run else ""
        lines = [
            f"{self.project}: {self.tasks:,} tasks and {self.annotations:,} annotations read, {self.taken:,} taken, by "
            f"{self.annotators:,} annotators.",
            f"{self.changed:,} documents {would}changed, {self.cleared:,} of them cleared; "
            f"{counts['unchanged']:,} stay as they are.",
        ]
        lines += [f"skipped {count:,} {reason}" for reason, count in sorted(self.skipped.items())]
        if self.missing:
            lines.append(f"skipped {self.missing:,} photos without a document")
        if self.labels:
            lines += self.labels.sentences()
        if self.busy:
            lines.append(f"warning: {self.busy:,} documents kept changing and were left as they are: sync again.")
        return "\n".join(lines)

    def write(self, folder: Path, parameters: dict[str, object]) -> None:
        """Write the artefact synced_labels: report.json and summary.txt.

        Raises:
            SparsightError: `folder` is finished already.
        """
        told = {
            "project": self.project,
            "dry_run": self.dry_run,
            **self.counts(),
            "skipped": dict(self.skipped),
            "labels": self.labels.as_json() if self.labels else None,
        }
        with new_artefact(folder, "synced_labels", parameters) as draft:
            draft.counts.update(self.counts())
            write_text(draft.folder / REPORT, json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
            write_text(draft.folder / SUMMARY, f"{self}\n")
