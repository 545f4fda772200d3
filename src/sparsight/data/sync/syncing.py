"""Compares an export with the documents of its photos in one query, and writes the differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsight.data.sync.documents import FIELDS, annotations_of, changed_fields, owns
from sparsight.data.sync.notebook import Change, Notebook
from sparsight.data.sync.opinions import standing
from sparsight.data.sync.report import SyncReport
from sparsight.errors import SparsightError
from sparsight.progress import Progress
from sparsight.stores.metadata import MetadataStore, for_all

_ALL = f"SELECT c.id, c._etag, {', '.join(f'c.{name}' for name in FIELDS)} FROM c"  # noqa: S608 - our own names
_ONE = f"{_ALL} WHERE c.id = @id"
_AT_ONCE = 32
_TRIES = 5
_FEW = 10


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How what people say gets into documents.

    Attributes:
        agreeing: how many annotators must name the same for that to count as a review; 0 for never.
        clear_deleted: whether annotations go that the export doesn't have any more. It must be a whole export then.
        max_cleared: largest share of the project's documents that may lose all its annotations in one sync, 0 to 1;
            ten of them always may.

    Raises:
        SparsightError: one annotator is to agree with nobody.
    """

    agreeing: int = 0
    clear_deleted: bool = True
    max_cleared: float = 0.5

    def __post_init__(self) -> None:
        if self.agreeing == 1 or self.agreeing < 0:
            raise SparsightError(f"agreeing is {self.agreeing}; expected 2 annotators or more, or 0 for never.")


async def sync_documents(
    store: MetadataStore, containers: Sequence[str], notebook: Notebook, rules: Rules, report: SyncReport
) -> None:
    """Bring what an export says into the documents of its photos.

    Everything is compared before anything is written. Documents that hold what they should aren't written.

    Args:
        store: of the documents.
        containers: to be synced.
        notebook: the export, read to its end.
        rules: what to make of it.
        report: takes the counts; names the project, and says whether anything is to be written.

    Raises:
        SparsightError: a container is missing, or too many documents would lose their annotations, and nothing was
            written; or the database can't be reached any more.
    """
    sync = _Sync(store, notebook, rules, report)
    await store.require_containers(containers)
    for container in containers:
        await sync.compare(container)
    report.missing = notebook.missing()
    sync.check_cleared()
    if not report.dry_run:
        await sync.write()


class _Sync:
    """One sync after its export was read."""

    def __init__(self, store: MetadataStore, notebook: Notebook, rules: Rules, report: SyncReport) -> None:
        self.store, self.notebook, self.rules, self.report = store, notebook, rules, report
        self.project = report.project
        self.owned = 0

    async def compare(self, container: str) -> None:
        """Note what is to be written into a container's documents."""
        async for document in self.store.rows(container, _ALL):
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
        stands = list(standing(said, self.rules.agreeing))
        return changed_fields(document, said, stands, self.project, clear=self.rules.clear_deleted)

    def check_cleared(self) -> None:
        """Refuse to clear more documents than may be: the export of another project, or of an emptied one, looks so."""
        cleared, share = self.report.cleared, self.rules.max_cleared
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
