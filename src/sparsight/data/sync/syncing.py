"""The sync itself: reads an export whole, compares it with the documents in one query, and writes the differences."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsight.data.sync.documents import FIELDS, annotations_of, changed_fields, owns
from sparsight.data.sync.export import parse_tasks
from sparsight.data.sync.notebook import Change, Notebook
from sparsight.data.sync.opinions import standing
from sparsight.data.sync.reading import Reader, Reading
from sparsight.data.sync.report import SyncReport
from sparsight.errors import SparsightError
from sparsight.progress import Progress
from sparsight.stores.metadata import MetadataStore, for_all

_READ = ("id", "_etag", *FIELDS)
_ONE = f"SELECT {', '.join(f'c.{name}' for name in _READ)} FROM c WHERE c.id = @id"  # noqa: S608 - our own names
_AT_ONCE = 32
_TRIES = 5
_FEW = 10


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a sync may write.

    Attributes:
        agreeing: how many annotators must name the same for that to count as a review; 0 for never.
        clear_deleted: whether annotations go that the export doesn't have any more. It must be a whole export then.
        max_cleared: largest share of the project's documents that may lose all its annotations in one sync, 0 to 1;
            ten of them always may.
        dry_run: write nothing.

    Raises:
        SparsightError: one annotator is to agree with nobody.
    """

    agreeing: int = 0
    clear_deleted: bool = True
    max_cleared: float = 0.5
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.agreeing == 1 or self.agreeing < 0:
            raise SparsightError(f"agreeing is {self.agreeing}; expected 2 annotators or more, or 0 for never.")


async def sync_labels(
    store: MetadataStore,
    project: str,
    tasks: Iterable[Mapping[str, Any]],
    reading: Reading,
    writing: Writing,
) -> SyncReport:
    """Bring a project's annotations into the documents of their photos.

    The export is read and checked to its end before the database is asked, and everything is compared before anything
    is written. Documents that hold what they should aren't written.

    Args:
        store: of the documents.
        project: title of the project in Label Studio; each annotation remembers it, so that it can be replaced.
        tasks: the project's export, as JSON.
        reading: how to read it.
        writing: what may be written.

    Raises:
        SparsightError: the export is broken or refused, a container is missing, or too many documents would lose their
            annotations, and nothing was written; or the database can't be reached any more.
    """
    report = SyncReport(project=project, dry_run=writing.dry_run)
    with Notebook() as notebook:
        Reader(notebook, reading, report).read(parse_tasks(tasks, f"The export of {project!r}"))
        sync = _Sync(store, project, notebook, writing, report)
        await store.require_containers(reading.containers)
        for container in reading.containers:
            await sync.compare(container)
        report.missing = notebook.missing()
        sync.check_cleared()
        if not writing.dry_run:
            await sync.write()
    return report


class _Sync:
    """One sync after its export was read."""

    def __init__(
        self, store: MetadataStore, project: str, notebook: Notebook, writing: Writing, report: SyncReport
    ) -> None:
        self.store, self.project, self.notebook = store, project, notebook
        self.writing, self.report = writing, report
        self.owned = 0

    async def compare(self, container: str) -> None:
        """Note what is to be written into a container's documents."""
        async for document in self.store.scan(container, _READ):
            self._compare(container, document)

    def _compare(self, container: str, document: Mapping[str, Any]) -> None:
        self.report.documents += 1
        self.notebook.mark_found(container, document["id"])
        owned = any(owns(self.project, entry) for entry in annotations_of(document))
        self.owned += owned
        if fields := self._changes(container, document):
            self.report.changed += 1
            left = fields.get("labels_with_taxonomy", annotations_of(document))
            self.report.cleared += owned and not any(owns(self.project, entry) for entry in left)
            self.notebook.add_change(Change(container, document["id"], document["_etag"], fields))

    def _changes(self, container: str, document: Mapping[str, Any]) -> dict[str, Any]:
        said = self.notebook.opinions(container, document["id"])
        stands = list(standing(said, self.writing.agreeing))
        return changed_fields(document, said, stands, self.project, clear=self.writing.clear_deleted)

    def check_cleared(self) -> None:
        """Refuse to clear more documents than may be: the export of another project, or of an emptied one, looks so."""
        cleared, share = self.report.cleared, self.writing.max_cleared
        if cleared > max(share * self.owned, _FEW):
            raise SparsightError(
                f"{cleared:,} of the {self.owned:,} documents with annotations of {self.project!r} would lose all, "
                f"more than a share of {share:g}. Nothing was written.",
                hint="Is it the right project, exported whole? If that is meant, set max_cleared to 1.",
            )

    async def write(self) -> None:
        """Write what was noted; documents that others have changed meanwhile are read and compared anew."""
        self.progress = Progress(f"Syncing {self.project}", self.report.changed, "documents")
        await for_all(self.notebook.changes(), self._write, at_once=_AT_ONCE)
        if self.report.changed:
            self.progress.finish()

    async def _write(self, change: Change) -> None:
        fields, etag = change.fields, change.etag
        for _ in range(_TRIES):
            if await self.store.set_fields(change.container, change.photo, fields, etag):
                break
            found = await self.store.query(change.container, _ONE, {"@id": change.photo})
            fields = self._changes(change.container, found[0]) if found else {}
            if not fields:  # gone, or somebody else has written the same
                self.report.changed -= 1
                break
            etag = found[0]["_etag"]
        else:
            self.report.changed -= 1
            self.report.busy += 1
        self.progress.advance()
