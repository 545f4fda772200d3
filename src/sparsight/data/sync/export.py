"""Label Studio's JSON export, read task by task: of the open-source edition and of the paid one."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from sparsight.data.labels import Path, deepest
from sparsight.errors import SparsightError

TAXONOMY = "taxonomy"
_START = 1 << 12


class Person(BaseModel):
    """Who annotated, as the paid edition tells it; the open-source one gives the id alone."""

    id: int
    email: str | None = None


def _as_person(who: object) -> object:
    return {"id": who} if isinstance(who, int) else who


class Review(BaseModel):
    """A verdict on an annotation; the paid edition's."""

    accepted: bool | None = None
    created_at: datetime | None = None


class Annotation(BaseModel):
    """One submission of one person.

    Attributes:
        completed_by: None where Label Studio has deleted the account.
        reviews: None where the edition knows of none.
    """

    id: int
    completed_by: Annotated[Person | None, BeforeValidator(_as_person)] = None
    was_cancelled: bool | None = False
    result: list[dict[str, Any]] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    reviews: list[Review] | None = None

    @property
    def time(self) -> datetime:
        """When it was last submitted, in UTC."""
        return _in_utc(self.updated_at or self.created_at)

    @property
    def accepted(self) -> bool:
        """Whether the last review accepted it."""
        last = max(self.reviews or (), key=lambda review: _in_utc(review.created_at), default=None)
        return last is not None and last.accepted is True

    def paths(self) -> list[Path]:
        """The label paths of all its results together, as `deepest` leaves them.

        Raises:
            ValueError: a result of a Taxonomy isn't a list of paths.
        """
        return deepest(
            path for result in self.result or () if result.get("type") == TAXONOMY for path in _paths(result)
        )


class Task(BaseModel):
    """One photo to annotate, and what people said about it."""

    id: int
    data: dict[str, Any]
    annotations: list[Annotation]
    project: int | None = None


def _in_utc(time: datetime | None) -> datetime:
    """Read a time; one without a zone is in UTC, and none is the beginning of 1970."""
    if time is None:
        return datetime.fromtimestamp(0, UTC)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


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
                f"{where}: task number {number:,} isn't as Label Studio exports it: {place or 'it'}: {first['msg']}.",
                hint="Export the project as JSON; JSON-MIN and CSV hold too little.",
            ) from error


def read_tasks(file: FilePath) -> Iterator[dict[str, Any]]:
    """Read a JSON export task by task, however large it is; whoever reads to the end has read a whole export.

    Raises:
        SparsightError: it can't be read, isn't a list of tasks, or is broken off.
    """
    import ijson

    count = 0
    try:
        with file.open("rb") as stream:
            if stream.read(_START).lstrip()[:1] != b"[":
                raise SparsightError(f"{file} isn't a list of tasks.", hint="Export the project as JSON.")
            stream.seek(0)
            for task in ijson.items(stream, "item", use_float=True):
                yield task
                count += 1
    except OSError as error:
        raise SparsightError(f"{file} can't be read: {error.strerror or error}.") from error
    except ijson.JSONError as error:
        raise SparsightError(
            f"{file} is broken off, or isn't JSON, after task {count:,}.", hint="Export it again; nothing was changed."
        ) from error
