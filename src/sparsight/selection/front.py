"""Choices among few points, for as long as no other point can come before them."""

import numpy as np
from numpy.typing import NDArray

from sparsight.selection.covering import lower_bases, margins, squared_distances
from sparsight.selection.frontier import Bound
from sparsight.selection.points import Floats, Points, Rows

CHOSEN = -1.0
"""The squared distance of a chosen point, below that of every other."""


class Front:
    """Points whose squared distances to all centres are exact.

    Args:
        points: whom rough rows are like.
        exact: float64, M x D: their exact rows.
        rows: int64, M, in ascending order.
        squared: float64, M, squared distances to the nearest centre; changed here.
        nearest: int64, M, the numbers of these centres; changed here.
    """

    def __init__(self, points: Points, exact: Floats, rows: Rows, squared: Floats, nearest: NDArray[np.int64]) -> None:
        self.exact, self.rows, self.squared, self.nearest = exact, rows, squared, nearest
        self._apart = self._measure(points)

    def choose(self, bound: Bound, number: int, most: int) -> tuple[list[int], list[float]]:
        """Choose the farthest point again and again.

        Args:
            bound: the first of all other points.
            number: of the first choice as a centre.
            most: choices, at most.

        Returns:
            Of each choice its place among these points, and its squared distance when it was chosen.
        """
        places: list[int] = []
        found: list[float] = []
        before = self.squared.copy()
        while len(self.rows) and len(places) < most:
            place = int(self.squared.argmax())
            key = float(self.squared[place])
            if key == CHOSEN or not bound.follows(key, int(self.rows[place])):
                break
            np.minimum(self.squared, self._apart[place], out=self.squared)
            self.squared[place] = CHOSEN
            places.append(place)
            found.append(key)
        self._attribute(places, before, number)
        return places, found

    def _attribute(self, places: list[int], before: Floats, number: int) -> None:
        """Find which choice is nearest, where one is nearer than all centres before."""
        if places:
            apart = self._apart[places]
            nearer = apart.min(0) < before
            self.nearest[nearer] = number + apart[:, nearer].argmin(0)

    def _measure(self, points: Points) -> Floats:
        """Compute squared distances between these points, exactly where they aren't above those to the centres."""
        rough = points.roughen(self.exact)
        bases = lower_bases(rough, points.slack).cpu().numpy()
        here = rough.cpu().numpy()
        lower = np.dot(-2 * here, here.T) + bases[:, None]
        limit = margins(self.squared * points.scale**2, bases)
        one, other = np.divmod(np.flatnonzero(lower < limit), max(1, len(self.rows)))
        apart = np.full(lower.shape, np.inf)
        apart[one, other] = squared_distances(self.exact[one], self.exact[other])
        return apart
