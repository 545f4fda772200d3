"""How far each point is from the nearest of some centres: brought up to date only where somebody asks."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.selection.points import Floats, Points, Rows

_PAIRS = {"cpu": 2**20, "cuda": 2**26}
"""Rough distances that are held at a time: what the processor's cache holds, or what keeps a GPU busy."""
_LANES = 64
"""Rough distances of a point whose least is looked at before they are themselves."""
_SPAN = 2**15
"""Rows, at most, that are gone through before others; so reads of a memory-mapped file stay together."""
_NUMBERS = 2**18
"""Numbers that are computed with exactly at a time."""
TINY = 1e-35
"""More than what underflow may take from a rough distance."""


class Covering:
    """The distance of each point to its nearest centre, and which one that is.

    Centres come one after another, and each point remembers how many of them it has met; where it hasn't met all, its
    distance is an upper bound. By definition the squared distance of two rows is `((a - b) ** 2).sum()` over exact
    rows, in float64, as NumPy sums; among equally near centres the first counts. Matrix products in float32 give lower
    bounds, and only tell for which centres this needn't be computed.

    Args:
        points: the points.
        capacity: the number of centres there will be at most.

    Attributes:
        squared: float64, N: squared distance to the nearest centre, infinite before the first.
        nearest: int64, N: number of that centre, from 0 in the order they came; -1 before the first.
        count: the number of centres.
    """

    def __init__(self, points: Points, capacity: int) -> None:
        self.points = points
        self.count = 0
        self.squared: Floats = np.full(len(points), np.inf)
        self.nearest = np.full(len(points), -1, np.int64)
        self._met = np.zeros(len(points), np.int32)
        self._centres: Floats = np.empty((capacity, points.dimension))
        padded = capacity + _LANES  # those beyond the last are infinitely far
        self._factors = torch.zeros((padded, points.dimension + 1), device=points.device)
        self._factors[:, -1] = torch.inf
        self._most = max(_PAIRS[points.device.type], padded)
        self._room = torch.empty(self._most, device=points.device)

    def add(self, centres: Floats) -> None:
        """Take more centres, as exact rows."""
        first, self.count = self.count, self.count + len(centres)
        rough = self.points.roughen(centres)
        self._centres[first : self.count] = centres
        self._factors[first : self.count, :-1] = -2 * rough
        self._factors[first : self.count, -1] = lower_bases(rough, self.points.slack)

    def bound(self) -> None:
        """Give each point an upper bound of its distance, roughly and by the first centre alone, in a single pass."""
        for rows in self.points.batches():
            found = self.points.rough(rows)
            base = lower_bases(found, self.points.slack)
            lower = self._factors[0, -1] + found.mv(self._factors[0, :-1])
            upper = base + self._upper(lower, self._spread(base))
            self.squared[rows] = upper.double().cpu().numpy() / self.points.scale**2
            self.nearest[rows] = 0

    def update(self, rows: Rows) -> None:
        """Have some points meet the centres that they haven't met yet.

        Args:
            rows: in ascending order.
        """
        for first in range(0, len(rows), _SPAN):
            span = rows[first : first + _SPAN]
            for group in self._alike(span[self.squared[span] > 0]):
                self._meet(group, int(self._met[group].min()))
            self._met[span] = self.count

    def settle(self, rows: Rows, squared: Floats, nearest: NDArray[np.int64]) -> None:
        """Take over what somebody else has found out about some points and all centres."""
        self.squared[rows], self.nearest[rows], self._met[rows] = squared, nearest, self.count

    def _alike(self, rows: Rows) -> Iterator[Rows]:
        """Group points by how many centres they have missed, up to a factor of two."""
        exponents = np.frexp((self.count - self._met[rows]).astype(np.float32))[1]
        return (rows[exponents == each] for each in np.unique(exponents) if each)

    def _meet(self, rows: Rows, first: int) -> None:
        width = (self.count - first) // _LANES * _LANES + _LANES
        step = self._most // width
        for number in range(0, len(rows), step):
            part = rows[number : number + step]
            places, centres = self._promising(part, first, width)
            self._approach(part[places], centres)

    def _promising(self, rows: Rows, first: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the pairs of a point, by its place in `rows`, and a centre that may be nearer than all before it."""
        rough = self.points.rough(rows)
        base = lower_bases(rough, self.points.slack)
        lanes = self._lower_bounds(rough, first, width).view(len(rows), -1, _LANES)
        least = lanes.amin(2)
        known = torch.from_numpy(self.squared[rows] * self.points.scale**2).to(base.device) - base
        known = torch.nextafter(known.float(), base.new_tensor(np.inf)) + TINY
        limit = torch.minimum(known, self._upper(least.amin(1), self._spread(base)))
        row, block = torch.nonzero(least < limit[:, None], as_tuple=True)
        hit, lane = torch.nonzero(lanes[row, block] < limit[row, None], as_tuple=True)
        return row[hit].cpu().numpy(), (first + block[hit] * _LANES + lane).cpu().numpy()

    def _lower_bounds(self, rough: Tensor, first: int, width: int) -> Tensor:
        """Give lower bounds of squared distances, less the points' own bases; valid until this is called again."""
        found = self._room[: len(rough) * width].view(len(rough), width)
        points, centres = nn.functional.pad(rough, (0, 1), value=1.0), self._factors[first : first + width]
        if found.device.type == "cpu":  # NumPy's BLAS is the faster one on some processors, and as fast on others
            np.dot(points.numpy(), centres.numpy().T, out=found.numpy())
        else:
            torch.mm(points, centres.T, out=found)
        return found

    def _approach(self, rows: Rows, centres: NDArray[np.int64]) -> None:
        """Compute pairs exactly, and keep what is nearer than before; the centres of a row are in ascending order."""
        step = max(1, _NUMBERS // self.points.dimension)
        for first in range(0, len(rows), step):
            some, theirs = rows[first : first + step], centres[first : first + step]
            squared = squared_distances(self.points.exact(some), self._centres[theirs])
            nearer = np.flatnonzero(squared < self.squared[some])[::-1]
            some, theirs, squared = some[nearer], theirs[nearer], squared[nearer]
            np.minimum.at(self.squared, some, squared)
            # What is assigned last stays: going backwards, the first of several nearest centres.
            nearest = squared == self.squared[some]
            self.nearest[some[nearest]] = theirs[nearest]

    def _upper(self, lower: Tensor, spread: Tensor) -> Tensor:
        """Give numbers above the squared distances whose lower bounds these are; less the points' own bases, both."""
        return torch.add(spread, lower, alpha=1 / (1 - 5 * self.points.slack))

    def _spread(self, base: Tensor) -> Tensor:
        """Give what an upper bound is more than a lower one, besides a factor.

        As the centre is no longer than the point and their distance together, its length need not be known.
        """
        slack = self.points.slack
        return base * ((1 + 7 * slack) / (1 - 5 * slack) - 1) + 2 * TINY


def lower_bases(rough: Tensor, slack: float) -> Tensor:
    """Give what two rough rows add to the lower bound of their squared distance, besides their product times -2."""
    return rough.square().sum(1) * (1 - slack)


def margins(squared: Floats, bases: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give what the rest of a lower bound must be under for a centre to be nearer than such squared rough distances."""
    with np.errstate(over="ignore"):  # minus infinity is right where the point has been chosen
        return np.nextafter((squared - bases).astype(np.float32), np.float32(np.inf)) + np.float32(TINY)


def squared_distances(some: Floats, others: Floats) -> Floats:
    """Measure the squared distance of each row to its counterpart, or to the one row there is."""
    difference = some - others
    found: Floats = np.square(difference, out=difference).sum(1)
    return found
