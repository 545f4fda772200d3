"""Numbers as metrics.json and other files of reports hold them."""

from pydantic import BaseModel, ConfigDict


class Stored(BaseModel):
    """Base of what such a file holds: unknown fields are refused, nothing changes after it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
