"""Numbers as metrics.json and other files of reports hold them."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from sparsight.errors import SparsightError

METRICS = "metrics.json"


class Stored(BaseModel):
    """Base of what such a file holds: unknown fields are refused, nothing changes after it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, path: Path, what: str) -> Self:
        """Read and check a file.

        Args:
            path: of the file.
            what: it holds, for the message.

        Raises:
            SparsightError: it isn't there, or isn't one.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise SparsightError(f"{path} can't be read as {what}: {error}") from error


class ClassMetrics(Stored):
    """Of one class: precision, recall, F1 (0 where undefined), and the number of its images."""

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def of_counts(cls, hits: int, named: int, support: int) -> "ClassMetrics":
        """Of images that are so and were called so, of all that were called so, and of all that are so."""
        return cls(
            precision=hits / named if named else 0.0,
            recall=hits / support if support else 0.0,
            f1=2 * hits / (named + support) if hits else 0.0,
            support=support,
        )


def read_final_metrics(report: Path, whose: str) -> dict[str, float]:
    """Read the final numbers of the report of a model without a test.

    Args:
        report: the report's folder.
        whose: numbers they are, for the message.

    Raises:
        SparsightError: it holds none.
    """
    path = report / METRICS
    try:
        final = json.loads(path.read_text(encoding="utf-8"))["final"]
        return {str(name): float(value) for name, value in final.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SparsightError(f"{path} can't be read as {whose} numbers: {error!r}.") from error
