"""Simulated annotators: they say what a photo's hidden true label is, err at a given rate, and cost something."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparsight.data.labels import Path
from sparsight.data.splits import unit_hash
from sparsight.errors import SparsightError

NEAR = 2 / 3
"""Share of the errors that stay below the same parent, where it has other labels: people mix up what is alike."""


@dataclass(frozen=True, kw_only=True)
class SimulatedAnnotator:
    """Somebody who labels photos. What they say of a photo is fixed by name, seed and photo, whenever it is asked.

    Attributes:
        name: who it is.
        labels: what may be said: the paths of the taxonomy's deepest nodes.
        error_rate: share of photos whose label is wrong, 0 to 1.
        seed: of the errors.
        cost: of one label, in any unit.

    Raises:
        SparsightError: the rate isn't a share, or the cost is negative.
    """

    name: str
    labels: Sequence[Path]
    error_rate: float = 0.0
    seed: int = 0
    cost: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.error_rate <= 1 or self.cost < 0:
            raise SparsightError(
                f"{self.name} errs at a rate of {self.error_rate} and costs {self.cost}; expected a share from 0 to 1, "
                "and no negative cost."
            )

    def says(self, photo_id: str, truth: Path) -> Path:
        """Label a photo.

        Args:
            photo_id: of the photo.
            truth: its true label.

        Returns:
            The truth, or a wrong label: mostly one with the same parent, otherwise any other.
        """
        if self._draw("errs", photo_id) >= self.error_rate:
            return truth
        others = sorted({tuple(label) for label in self.labels} - {truth})
        near = [label for label in others if label[:-1] == truth[:-1]]
        chosen = near if near and self._draw("near", photo_id) < NEAR else others
        return chosen[int(self._draw("which", photo_id) * len(chosen))] if chosen else truth

    def _draw(self, purpose: str, photo_id: str) -> float:
        return unit_hash(f"{self.name}\0{purpose}", self.seed, photo_id)
