"""The points that are farthest from all centres, without looking through all points each time."""

from typing import NamedTuple

import numpy as np

from sparsight.selection.points import Floats, Rows

_POOL = 16
"""So many times as many points as are asked for are kept at hand."""


class Bound(NamedTuple):
    """The first of the points that weren't taken: a larger key comes first, and of equal keys the lower row."""

    key: float
    row: int

    def follows(self, key: float, row: int) -> bool:
        """Tell whether another point comes before this one, and so before all that weren't taken."""
        return (key, -row) > (self.key, -self.row)

    def or_earlier(self, other: "Bound") -> "Bound":
        """Give the one of both that comes first."""
        return other if self.follows(*other) else self


NOBODY = Bound(-np.inf, 0)


class Frontier:
    """Finds the points with the largest keys, where keys only ever fall.

    Args:
        keys: float64, N; looked at anew each time.
    """

    def __init__(self, keys: Floats) -> None:
        self._keys = keys
        self._pool: Rows = np.arange(0)
        self._outside = Bound(np.inf, -1)

    def top(self, count: int) -> tuple[Rows, Bound]:
        """Take the points with the largest keys, of equal ones those with the lowest rows.

        Returns:
            Their rows in ascending order, and the first point that wasn't taken.
        """
        rows, bound = top(self._keys, self._pool, count)
        if not self._outside.follows(*bound):
            self._pool, self._outside = top(self._keys, np.arange(len(self._keys)), _POOL * count)
            rows, bound = top(self._keys, self._pool, count)
        return rows, self._outside.or_earlier(bound)


def top(keys: Floats, rows: Rows, count: int) -> tuple[Rows, Bound]:
    """Take those of some rows that have the largest keys, and give the first that wasn't taken.

    Args:
        keys: float64, N.
        rows: in ascending order.
        count: how many to take, at most.
    """
    if count >= len(rows):
        return rows, NOBODY
    here = keys[rows]
    border = len(here) - count
    following, last = np.partition(here, (border - 1, border))[border - 1 : border + 1]
    larger, equal = np.flatnonzero(here > last), np.flatnonzero(here == last)
    fitting = count - len(larger)
    next_one = equal[fitting] if following == last else np.flatnonzero(here == following)[0]
    taken = np.sort(np.concatenate([larger, equal[:fitting]]))
    return rows[taken], Bound(float(following), int(rows[next_one]))
