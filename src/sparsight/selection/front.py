"""Choices among few points, for as long as no other point can come before them."""

import numpy as np
from numpy.typing import NDArray

from sparsight.selection.covering import TINY, lower_bases, squared_distances
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
        rough = points.roughen(exact)
        self._bases = lower_bases(rough, points.slack).cpu().numpy()
        self._rough = rough.cpu()
        self._columns = (-2 * self._rough).T.contiguous()
        self._area = points.scale**2
        self._margins = self._margin(np.arange(len(rows)))

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
        while len(self.rows) and len(places) < most:
            place = int(self.squared.argmax())
            key = float(self.squared[place])
            if key == CHOSEN or not bound.follows(key, int(self.rows[place])):
                break
            self._meet(place, number + len(places))
            self.squared[place] = CHOSEN
            places.append(place)
            found.append(key)
        return places, found

    def _meet(self, place: int, number: int) -> None:
        """Compute exactly where the rough lower bound leaves it open whether a choice is the nearest centre."""
        lower = self._columns.T.mv(self._rough[place]).numpy() + self._bases[place]
        near = (lower < self._margins).nonzero()[0]
        squared = squared_distances(self.exact[near], self.exact[place])
        nearer = squared < self.squared[near]
        near = near[nearer]
        self.squared[near], self.nearest[near] = squared[nearer], number
        self._margins[near] = self._margin(near)

    def _margin(self, places: Rows) -> Floats:
        """Give what the rest of a lower bound must be under for a choice to be nearer than all centres."""
        return self.squared[places] * self._area + (TINY - self._bases[places])
