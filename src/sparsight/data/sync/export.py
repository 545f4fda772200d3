"""Label Studio's JSON export, read task by task: of the open-source edition and of the paid one."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any, TextIO

from pydantic import BaseModel, Field, ValidationError

from sparsight.data.labels import Path, deepest
from sparsight.errors import SparsightError

TAXONOMY = "taxonomy"
_CHUNK = 1 << 20
_MOST_CHARACTERS = 1 << 26
_EPOCH = datetime.fromtimestamp(0, UTC)


class Person(BaseModel):
    """Who annotated, as the paid edition tells it; the open-source one gives the id alone."""

    id: int
    email: str | None = None


class Review(BaseModel):
    """A verdict on an annotation; the paid edition's."""

    accepted: bool | None = None
    created_at: datetime = _EPOCH


class Annotation(BaseModel):
    """One submission of one person; `reviews` is None where the edition knows of none."""

    id: int
    completed_by: int | Person | None = None
    was_cancelled: bool | None = False
    result: list[dict[str, Any]] = Field(default_factory=list)
    created_at: datetime = _EPOCH
    updated_at: datetime | None = None
    reviews: list[Review] | None = None

    @property
    def person(self) -> Person | None:
        """Who annotated; None where Label Studio has deleted the account."""
        return Person(id=self.completed_by) if isinstance(self.completed_by, int) else self.completed_by

    @property
    def time(self) -> datetime:
        """When it was last submitted, in UTC."""
        time = self.updated_at or self.created_at
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

    @property
    def accepted(self) -> bool:
        """Whether the last review accepted it."""
        return bool(self.reviews) and max(self.reviews or [], key=lambda review: review.created_at).accepted is True

    def paths(self) -> list[Path]:
        """The label paths of all its results together, as `deepest` leaves them.

        Raises:
            ValueError: a result of a Taxonomy isn't a list of paths.
        """
        return deepest(path for result in self.result if result.get("type") == TAXONOMY for path in _paths(result))


class Task(BaseModel):
    """One photo to annotate, and what people said about it."""

    id: int
    data: dict[str, Any]
    annotations: list[Annotation]
    project: int | None = None


def _paths(result: Mapping[str, Any]) -> Iterator[Path]:
    value = result.get("value")
    paths = value.get(TAXONOMY) if isinstance(value, dict) else None
    if not isinstance(paths, list):
        raise ValueError(f"a result's value is {value!r}; expected {{'taxonomy': [[level 1, level 2], ...]}}")
    for path in paths:
        if not isinstance(path, list) or not path or not all(isinstance(name, str) and name for name in path):
            raise ValueError(f"a result names the label {path!r}; expected a list of names")
        yield tuple(path)


def parse_tasks(tasks: Iterable[Mapping[str, Any]], where: str) -> Iterator[Task]:
    """Check tasks and give them their types, one by one.

    Args:
        tasks: as the export has them.
        where: they come from, for messages.

    Raises:
        SparsightError: one isn't of the shape of Label Studio's JSON export.
    """
    for number, content in enumerate(tasks, start=1):
        try:
            yield Task.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise SparsightError(
                f"{where}: task {content.get('id', f'number {number}')} isn't as Label Studio exports it: "
                f"{place or 'it'}: {first['msg']}.",
                hint="Export the project as JSON; JSON-MIN and CSV hold too little.",
            ) from error


def read_tasks(file: FilePath) -> Iterator[dict[str, Any]]:
    """Read a JSON export task by task, however large it is; whoever reads to the end has read a whole export.

    Raises:
        SparsightError: it can't be read, isn't a list of tasks, or ends too early.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            yield from _Elements(stream, file)
    except (OSError, UnicodeDecodeError) as error:
        raise SparsightError(f"{file} can't be read: {getattr(error, 'strerror', None) or error}.") from error


class _Elements:
    """The objects of a JSON list, parsed one after the other out of a text that is read in pieces."""

    def __init__(self, stream: TextIO, file: FilePath) -> None:
        self.stream, self.file = stream, file
        self.text, self.position, self.count = "", 0, 0
        self.decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._next() != "[":
            raise SparsightError(f"{self.file} isn't a list of tasks.", hint="Export the project as JSON.")
        self.position += 1
        while (character := self._next()) != "]":
            if self.count and character == ",":
                self.position += 1
            elif self.count:
                raise self._broken()
            yield self._object()
        self.position += 1
        if self._next():
            raise SparsightError(f"{self.file} goes on after its list of tasks; expected its end.")

    def _next(self) -> str:
        """Give the next character that isn't a blank, without passing it; nothing at the end of the file."""
        while True:
            while self.position < len(self.text):
                if not self.text[self.position].isspace():
                    return self.text[self.position]
                self.position += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        piece = self.stream.read(max(_CHUNK, len(self.text) - self.position))
        self.text, self.position = self.text[self.position :] + piece, 0
        return bool(piece)

    def _object(self) -> dict[str, Any]:
        if self._next() != "{":
            raise self._broken()
        while True:
            try:
                content, self.position = self.decoder.raw_decode(self.text, self.position)
            except ValueError:
                if len(self.text) - self.position > _MOST_CHARACTERS or not self._more():
                    raise self._broken() from None
            else:
                self.count += 1
                return dict(content)

    def _broken(self) -> SparsightError:
        after = f"after task {self.count:,}" if self.count else "in its first task"
        return SparsightError(
            f"{self.file} is broken off, or isn't JSON, {after}.", hint="Export again: nothing was changed."
        )
