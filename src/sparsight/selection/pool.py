"""What may be chosen, and what is known about it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.selection.points import Floats, Points, Rows

Features: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Embeddings to choose from, and what helps in choosing.

    Attributes:
        values: N x D, as `Points` takes them.
        metric: what is near and what is far; for cosine, features are of unit length.
        labelled: M x D, of what is labelled already; None for nothing.
        uncertainty: float64, N: of a classifier, from 0, sure, to 1, at a loss; None without one.
        probabilities: float, N x classes: of a classifier; None without one.
        classes: how many there are; 0 where nobody knows.

    Raises:
        SparsightError: something isn't known of each embedding, or labelled ones have another D.
    """

    values: Any = field(repr=False)
    metric: str = "cosine"
    labelled: Any = field(default=None, repr=False)
    uncertainty: Floats | None = field(default=None, repr=False)
    probabilities: NDArray[np.floating] | None = field(default=None, repr=False)
    classes: int = 0

    def __post_init__(self) -> None:
        for name in ("uncertainty", "probabilities"):
            known = getattr(self, name)
            if known is not None and len(known) != len(self):
                raise SparsightError(f"{name} has {len(known):,} rows; expected {len(self):,}, one for each embedding.")
        if self.known.shape[1] != self.points.dimension:
            raise SparsightError(
                f"Labelled embeddings have {self.known.shape[1]} numbers each; expected {self.points.dimension} as in "
                "the others.",
                hint="Embed both with the same model.",
            )

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def points(self) -> Points:
        """All embeddings, read where they are needed."""
        return Points(self.values, metric=self.metric)

    @cached_property
    def known(self) -> Floats:
        """Exact rows of labelled embeddings, M x D."""
        if self.labelled is None or not len(self.labelled):
            return np.empty((0, self.points.dimension))
        points = Points(self.labelled, metric=self.metric)
        return points.exact(np.arange(len(points)))

    @cached_property
    def features(self) -> Features:
        """All embeddings in memory, N x D."""
        found = np.empty((len(self), self.points.dimension), np.float32)
        for rows in self.points.batches():
            found[rows] = self.points.exact(rows)
        return found

    @cached_property
    def known_features(self) -> Features:
        """Labelled embeddings, M x D."""
        return self.known.astype(np.float32)

    def part(self, rows: Rows, known_rows: Rows | None = None) -> Self:
        """Give a pool of some embeddings only, in the order asked for, and of all or some labelled ones."""
        return replace(
            self,
            values=_rows_of(self.values, rows),
            labelled=self.labelled if known_rows is None else _rows_of(self.labelled, known_rows),
            uncertainty=None if self.uncertainty is None else self.uncertainty[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
        )


def _rows_of(values: Any, rows: Rows) -> Any:
    if values is None:
        return None
    return values[torch.from_numpy(rows) if isinstance(values, torch.Tensor) else rows]
