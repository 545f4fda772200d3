"""Where a sync keeps what it has read and what it will write: a file of its own, so that memory stays small."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any

from sparsight.data.sync.opinions import Opinion

_TABLES = """
CREATE TABLE photos (container TEXT, photo TEXT, found INTEGER DEFAULT 0, PRIMARY KEY (container, photo)) WITHOUT ROWID;
CREATE TABLE opinions (
    container TEXT, photo TEXT, annotator TEXT, time TEXT, number INTEGER, paths TEXT, reviewed INTEGER,
    PRIMARY KEY (container, photo, annotator)
) WITHOUT ROWID;
CREATE TABLE changes (container TEXT, photo TEXT, etag TEXT, fields TEXT, PRIMARY KEY (container, photo)) WITHOUT ROWID;
"""
_SAY = """
INSERT INTO opinions VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE
SET time = excluded.time, number = excluded.number, paths = excluded.paths, reviewed = excluded.reviewed
WHERE (excluded.time, excluded.number) > (time, number)
"""


@dataclass(frozen=True)
class Change:
    """What to set in a document, if it is still the version that was read."""

    container: str
    photo: str
    etag: str
    fields: Mapping[str, Any]


class Notebook:
    """The photos of an export, the last opinion of each annotator about each, and changes to be written.

    It is a SQLite file in the folder for temporary files, readable by its owner alone, gone with the block.
    """

    def __enter__(self) -> "Notebook":
        self._folder = tempfile.TemporaryDirectory(prefix="sparsight-sync-")
        self._database = sqlite3.connect(FilePath(self._folder.name, "notebook.sqlite"), isolation_level=None)
        # Nothing here outlives the process, so that there is no point in being careful with it.
        self._database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES} BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add_photo(self, container: str, photo: str) -> bool:
        """Note a photo of the export; says whether it is new."""
        done = self._database.execute(
            "INSERT OR IGNORE INTO photos (container, photo) VALUES (?, ?)", (container, photo)
        )
        return done.rowcount == 1

    def add_opinion(self, container: str, photo: str, opinion: Opinion) -> None:
        """Note an opinion, unless a later one of the same annotator about the same photo is noted."""
        paths = json.dumps(opinion.paths, ensure_ascii=False)
        row = (container, photo, opinion.annotator, opinion.time, opinion.number, paths, opinion.reviewed)
        self._database.execute(_SAY, row)

    def opinions(self, container: str, photo: str) -> list[Opinion]:
        """The last opinions about a photo, one of each annotator."""
        rows = self._database.execute(
            "SELECT time, number, annotator, paths, reviewed FROM opinions WHERE container = ? AND photo = ?",
            (container, photo),
        )
        return [
            Opinion(time, number, annotator, tuple(tuple(path) for path in json.loads(paths)), bool(reviewed))
            for time, number, annotator, paths, reviewed in rows
        ]

    def counts(self) -> tuple[int, int]:
        """How many annotators are noted, and how many opinions that say something."""
        text = "SELECT COUNT(DISTINCT annotator), COUNT(*) FROM opinions WHERE paths <> '[]'"
        annotators, opinions = self._database.execute(text).fetchone()
        return annotators, opinions

    def mark_found(self, container: str, photo: str) -> bool:
        """Note that a document is there; says whether the export has its photo."""
        text = "UPDATE photos SET found = 1 WHERE container = ? AND photo = ?"
        return self._database.execute(text, (container, photo)).rowcount == 1

    def missing(self) -> int:
        """How many photos of the export no document was found for."""
        return int(self._database.execute("SELECT COUNT(*) FROM photos WHERE NOT found").fetchone()[0])

    def add_change(self, change: Change) -> None:
        """Note what is to be written."""
        row = (change.container, change.photo, change.etag, json.dumps(change.fields, ensure_ascii=False))
        self._database.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", row)

    def changes(self) -> Iterator[Change]:
        """Everything to be written, by container and photo."""
        rows = self._database.execute("SELECT container, photo, etag, fields FROM changes ORDER BY container, photo")
        for container, photo, etag, fields in rows:
            yield Change(container, photo, etag, json.loads(fields))
