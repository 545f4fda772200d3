"""Farthest point sampling (k-center greedy): each choice is the point farthest from all that were chosen before.

Gonzalez, Clustering to minimize the maximum intercluster distance (1985); as a way to choose what to label: Sener and
Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach (ICLR 2018).

The answer is that of the naive algorithm, which brings all points up to date after each choice. But a distance that was
right some choices ago is an upper bound now. So only the points with the largest bounds are brought up to date, many of
them with many choices by one matrix product; and choices are made among the farthest of these, for as long as one of
them is farther than the bound of any other point. Where there are few dimensions, all points are brought up to date
before such a series of choices, since most of them are far from most choices, and cells.py tells this at little cost.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.models.world import ALONE, World
from sparsight.selection.cells import CellCovering
from sparsight.selection.covering import Covering
from sparsight.selection.front import CHOSEN, Front
from sparsight.selection.frontier import Bound, Frontier, top
from sparsight.selection.points import Floats, Points, Rows

_FRONT = 256
"""Points among which choices are made at a time."""
_UPDATED = (4096, 32768)
"""Least and most points that are brought up to date at a time."""
_UPDATED_SHARE = 32
"""One of so many points is, between these."""
_FEW_DIMENSIONS = 16
"""Up to so many, cells of points keep apart."""


@dataclass(frozen=True, kw_only=True)
class FarthestPoints:
    """What was chosen, and how it covers the points.

    Attributes:
        order: int64, K: rows, in the order they were chosen.
        distances: float64, K: of each choice to the nearest one before it, labelled ones included; infinite where
            there is none. It is the coverage radius before the choice.
        nearest: int64, N: of each point, which choice is nearest, as a place in `order`, the first among equals; -1
            where a labelled point is as near.
        nearest_distances: float64, N: how far that one is.
    """

    order: Rows
    distances: Floats
    nearest: NDArray[np.int64]
    nearest_distances: Floats

    @property
    def radii(self) -> Floats:
        """The coverage radius after each choice: how far the farthest point is from the nearest choice; float64, K."""
        return np.append(self.distances[1:], self.nearest_distances.max())


def farthest_point(
    points: Points,
    budget: int,
    *,
    labelled: Floats | None = None,
    start: int = 0,
    world: World = ALONE,
) -> FarthestPoints:
    """Choose points, each as far as can be from all chosen and labelled ones; among equally far ones the lowest row.

    What is equally far is decided by squared distances in float64 (`Covering` says how). The choice depends neither on
    the number of threads nor on the device nor on how the points are divided over processes.

    Args:
        points: of this process; those of all processes are joined in the order of ranks, which is how rows count.
        budget: how many to choose, in all processes together.
        labelled: exact rows chosen earlier, M x D, the same in all processes.
        start: row that is chosen first, where nothing is labelled.
        world: the processes.

    Raises:
        SparsightError: the budget is larger than the number of points.
    """
    search = _Search(points, budget, labelled, world)
    search.begin(start)
    while len(search.order) < budget:
        search.go_on()
    return search.result()


class _Search:
    def __init__(self, points: Points, budget: int, labelled: Floats | None, world: World) -> None:
        self.points, self.budget, self.world = points, budget, world
        counts = world.gather(torch.tensor([len(points)])).numpy()
        if not 1 <= budget <= counts.sum():
            raise SparsightError(f"budget is {budget:,}; expected 1 to {counts.sum():,}, the number of embeddings.")
        self.first_row = int(counts[: world.rank].sum())
        self.known = np.empty((0, points.dimension)) if labelled is None else labelled
        few = points.dimension <= _FEW_DIMENSIONS and points.device.type == "cpu"
        self.covering = (CellCovering if few else Covering)(points, len(self.known) + budget)
        self.frontier = Frontier(self.covering.squared)
        lazily = int(np.clip(counts.sum() // _UPDATED_SHARE, *_UPDATED)) // world.size + 1
        self.updated = len(points) if few else lazily
        self.front = _FRONT // world.size + 1
        self.order: list[int] = []
        self.squared: list[float] = []

    def begin(self, start: int) -> None:
        """Take what is labelled for chosen, or choose the first point."""
        if len(self.known):
            self.covering.add(self.known)
            self.covering.update(np.arange(len(self.points)))
            return
        mine = np.array([start - self.first_row])
        mine = mine[(mine >= 0) & (mine < len(self.points))]
        self.covering.add(self._gathered(self.points.exact(mine)))
        self.covering.bound()
        self.covering.settle(mine, np.full(len(mine), CHOSEN), np.zeros(len(mine), np.int64))
        self.order, self.squared = [start], [np.inf]

    def go_on(self) -> None:
        """Choose among the farthest points."""
        mine, first_left = self._farthest()
        bound = self._first_of_all(first_left)
        mine = mine[self.covering.squared[mine] >= bound.key]
        front = Front(
            self.points,
            self._gathered(self.points.exact(mine)),
            self._gathered(mine + self.first_row),
            self._gathered(self.covering.squared[mine]),
            self._gathered(self.covering.nearest[mine]),
        )
        places, squared = front.choose(bound, self.covering.count, self.budget - len(self.order))
        self.covering.add(front.exact[places])
        here = np.searchsorted(front.rows, mine + self.first_row)
        self.covering.settle(mine, front.squared[here], front.nearest[here])
        self.order += front.rows[places].tolist()
        self.squared += squared

    def result(self) -> FarthestPoints:
        """Bring all points up to date."""
        self.covering.update(np.arange(len(self.points)))
        squared = np.maximum(self.covering.squared, 0)
        return FarthestPoints(
            order=np.array(self.order),
            distances=self.points.distances(np.array(self.squared)),
            nearest=np.maximum(self.covering.nearest - len(self.known), -1),
            nearest_distances=self.points.distances(squared),
        )

    def _farthest(self) -> tuple[Rows, Bound]:
        """Find the farthest points, by bringing those with large bounds up to date, and the first of all others."""
        if self.updated >= len(self.points):
            self.covering.update(np.arange(len(self.points)))
            return self.frontier.top(self.front)
        updated, first_left = self.frontier.top(self.updated)
        self.covering.update(updated)
        farthest, following = top(self.covering.squared, updated, self.front)
        return farthest, following.or_earlier(first_left)

    def _first_of_all(self, bound: Bound) -> Bound:
        """Find the first of the points that no process has taken."""
        keys = self._gathered(np.array([bound.key]))
        rows = self._gathered(np.array([bound.row + self.first_row]))
        first = np.lexsort((rows, -keys))[0]
        return Bound(float(keys[first]), int(rows[first]))

    def _gathered(self, array: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = self.world.gather(torch.from_numpy(array)).numpy()
        return found
