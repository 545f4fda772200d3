"""A sync as people ask for it: where the export comes from, how it is read, and what may be written."""

import asyncio
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sparsight.data.query import container_names
from sparsight.data.sync.annotators import ANNOTATOR_NAMES, AnnotatorNames, Annotators, read_emails
from sparsight.data.sync.export import read_tasks
from sparsight.data.sync.reading import UNKNOWN_LABELS, Reading, UnknownLabels
from sparsight.data.sync.report import SyncReport
from sparsight.data.sync.syncing import Writing, sync_labels
from sparsight.data.taxonomy import Taxonomy
from sparsight.errors import SparsightError
from sparsight.stores.metadata import open_metadata
from sparsight.stores.settings import CosmosSettings


@dataclass(frozen=True, kw_only=True)
class SyncRequest:
    """The inputs of a sync; components/sync_labels/component.yml says what they mean."""

    project: str
    containers: str = "photos"
    database: str | None = None
    export: Path | None = None
    users: Path | None = None
    taxonomy: Path | None = None
    unknown_labels: str = "keep"
    annotators: str = "hashed"
    reviewers: str | None = None
    agreeing: int = 0
    clear_deleted: bool = True
    max_cleared: float = 0.5

    def run(self, *, dry_run: bool = False) -> SyncReport:
        """Sync.

        Args:
            dry_run: only find out what would be written.

        Raises:
            SparsightError: an input is no good, a server can't be reached, or the export is refused.
        """
        writing = Writing(
            agreeing=self.agreeing,
            clear_deleted=self.clear_deleted,
            max_cleared=self.max_cleared,
            dry_run=dry_run,
        )
        reading = self._reading()
        settings = CosmosSettings.from_environment()
        if self.database:
            settings = dataclasses.replace(settings, database=self.database)
        with self._tasks() as (tasks, emails):
            annotators = dataclasses.replace(reading.annotators, emails=emails)
            annotators.check_reviewers()
            return asyncio.run(
                _sync(settings, self.project, tasks, dataclasses.replace(reading, annotators=annotators), writing)
            )

    def _reading(self) -> Reading:
        names = cast(AnnotatorNames, _choice("annotators", self.annotators, ANNOTATOR_NAMES))
        return Reading(
            containers=container_names(self.containers),
            annotators=Annotators(names=names, reviewers=tuple((self.reviewers or "").split(","))),
            taxonomy=None if self.taxonomy is None else Taxonomy.read(self.taxonomy),
            unknown_labels=cast(UnknownLabels, _choice("unknown_labels", self.unknown_labels, UNKNOWN_LABELS)),
        )

    @contextmanager
    def _tasks(self) -> Iterator[tuple[Iterable[Mapping[str, Any]], Mapping[int, str]]]:
        """The export, and e-mail addresses by user: from files, or from the running server."""
        if self.export is not None:
            yield read_tasks(self.export), {} if self.users is None else read_emails(self.users)
            return
        if self.users is not None:
            raise SparsightError("users goes with an export; a running server is asked for its users itself.")
        from sparsight.stores.annotations import open_annotations

        with open_annotations() as studio:
            yield studio.export(studio.project(self.project)), studio.users()

    def parameters(self) -> dict[str, object]:
        """What made a report: files by their content, reviewers by their number, since addresses are personal data."""
        told = {key: value for key, value in dataclasses.asdict(self).items() if not isinstance(value, Path)}
        files = {"export": self.export, "users": self.users, "taxonomy": self.taxonomy}
        told |= {key: None if file is None else _digest(file) for key, file in files.items()}
        return told | {"reviewers": len([each for each in (self.reviewers or "").split(",") if each.strip()])}


async def _sync(
    settings: CosmosSettings, project: str, tasks: Iterable[Mapping[str, Any]], reading: Reading, writing: Writing
) -> SyncReport:
    async with open_metadata(settings) as store:
        return await sync_labels(store, project, tasks, reading, writing)


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise SparsightError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")
    return value


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
