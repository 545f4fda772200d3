"""What each annotator says of a photo in the end, and which of it counts as reviewed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sparsight.data.labels import Path
from sparsight.data.sync.annotators import Annotators
from sparsight.data.sync.export import Annotation
from sparsight.errors import SparsightError

SOURCE = "label-studio"
NEVER = ""
"""The time of what yields to any other opinion."""


@dataclass(frozen=True, order=True)
class Opinion:
    """What one annotator says of one photo; of two by the same annotator the greater one, the later, stands.

    Attributes:
        time: of the last submission, ISO 8601 in UTC, all of the same length.
        number: Label Studio's number of the annotation, for those of the same time.
        annotator: as documents name them.
        paths: sorted label paths; none where the annotator took all back.
        reviewed: whether a review accepted it, or a reviewer gave it.
    """

    time: str
    number: int
    annotator: str
    paths: tuple[Path, ...]
    reviewed: bool

    def entry(self, project: str) -> dict[str, Any]:
        """Write it as one of a document's annotations."""
        return {
            "annotator_id": self.annotator,
            "taxonomy": [list(path) for path in self.paths],
            "source": SOURCE,
            "project": project,
            "reviewed": self.reviewed,
            "updated_at": self.time,
        }


def opinion_of(annotation: Annotation, annotators: Annotators) -> Opinion:
    """Read an annotation as an opinion; a cancelled one says nothing, and yields to whatever else the annotator said.

    Raises:
        SparsightError: a result isn't a list of paths, or the annotator can't be named.
    """
    person = annotation.completed_by
    try:
        paths = () if annotation.was_cancelled else tuple(annotation.paths())
    except ValueError as error:
        raise SparsightError(f"Annotation {annotation.id} isn't as Label Studio exports it: {error}.") from error
    time = NEVER if annotation.was_cancelled else annotation.time.isoformat(timespec="microseconds")
    reviewed = annotation.accepted or annotators.is_reviewer(person)
    return Opinion(time, annotation.id, annotators.name(person), paths, reviewed)


def standing(opinions: Iterable[Opinion], agreeing: int) -> Iterator[Opinion]:
    """Give the opinions that say something, by annotator, those that enough others share marked as reviewed.

    Args:
        opinions: one of each annotator.
        agreeing: how many annotators must have named exactly the same paths for that to count as a review; 0 for never.
    """
    named = sorted((opinion for opinion in opinions if opinion.paths), key=lambda opinion: opinion.annotator)
    shared = Counter(opinion.paths for opinion in named)
    for opinion in named:
        confirmed = bool(agreeing) and shared[opinion.paths] >= agreeing
        yield replace(opinion, reviewed=True) if confirmed else opinion
