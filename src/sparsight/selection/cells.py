"""How far each point of few dimensions is from the nearest of some centres: cells of points meet centres near to them.

Cells are those of a k-d tree, as in Han et al., QuickFPS: Architecture and Algorithm Co-Design for Farthest Point
Sampling in Large-Scale Point Clouds (IEEE TCAD 2023). But here many centres come before any point meets them, and cells
that are near to about as many of these take one step together, so that there are few steps.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.selection.covering import TINY, Covering, lower_bases, margins
from sparsight.selection.points import Floats, Points, Rows

_CELL = 256
"""Points of a cell, at most."""
_SAMPLE = 4
"""One of so many points tells along which axis a cell is longest."""
_GAPS = 2**22
"""Gaps between cells and centres, each along each axis, that are held at a time."""
_PAIRS = 2**19
"""Rough distances that are held at a time, unless a single cell has more."""


class CellCovering(Covering):
    """A covering that brings all points up to date together, on the CPU.

    Each cell has as many slots, one for each of its points; a slot that is left over holds a point that has another
    one, and isn't in use. The points are held in memory, as rough rows.
    """

    def __init__(self, points: Points, capacity: int) -> None:
        super().__init__(points, capacity)
        self._before = 0
        rough = torch.cat([points.rough(rows) for rows in points.batches()])
        cells = divided(rough)
        found = rough[torch.from_numpy(cells)]
        self._size, self._rows = cells.shape[1], cells.ravel()
        self._slots = np.empty(len(points), np.int64)
        self._slots[self._rows] = np.arange(len(self._rows))
        self._low, self._high = (corner.T[:, :, None].contiguous() for corner in (found.amin(1), found.amax(1)))
        self._columns = nn.functional.pad(found, (0, 1), value=1.0).mT.contiguous()
        self._bases = lower_bases(found.flatten(0, 1), points.slack).view(cells.shape)
        self._spreads = self._spread(self._bases)
        self._margins = torch.full(cells.shape, -torch.inf)
        self._remember(self._slots)

    def bound(self) -> None:
        """Leave bounds as they are, since all points will meet the first centre at once."""

    def update(self, rows: Rows) -> None:
        """Have all points meet the centres that they haven't met yet, whichever rows are asked for."""
        step = max(1, _GAPS // self._low.numel())
        for first in range(self._before, self.count, step):
            for cells, centres in self._neighbours(first, min(first + step, self.count)):
                slots, found = self._candidates(cells, centres)
                self._approach(self._rows[slots], found)
                self._remember(slots)
        self._before = self.count

    def settle(self, rows: Rows, squared: Floats, nearest: NDArray[np.int64]) -> None:
        """Take over what somebody else has found out about some points."""
        super().settle(rows, squared, nearest)
        self._remember(self._slots[rows])

    def _remember(self, slots: Rows) -> None:
        """Note how near a centre must be to these points, to be nearer than those before it."""
        squared, bases = self.squared[self._rows[slots]], self._bases.view(-1).numpy()[slots]
        self._margins.view(-1).numpy()[slots] = margins(squared * self.points.scale**2, bases)

    def _neighbours(self, first: int, end: int) -> Iterator[tuple[Rows, Rows]]:
        """Give some cells and which of these centres are near to each, C and C x W; shorter lists end with nobody."""
        near = self._near(first, end)
        cell, centre = np.divmod(np.flatnonzero(near), near.shape[1])
        counts = np.bincount(cell, minlength=len(near))
        starts = np.cumsum(counts) - counts
        lists = np.full((len(near), counts.max()), self.count)  # who is infinitely far
        lists[cell, np.arange(len(cell)) - starts[cell]] = first + centre
        order = np.argsort(counts, kind="stable")[np.count_nonzero(counts == 0) :]
        while len(order):
            width = int(counts[order[-1]])
            number = max(1, _PAIRS // (width * self._size))
            cells, order = order[-number:], order[:-number]
            yield cells, lists[cells, :width]

    def _near(self, first: int, end: int) -> NDArray[np.bool_]:
        """Tell of each cell which of these centres may be nearer to one of its points than all before.

        They aren't where its box is too far. The box is as rough as the points are: a distance is wrong by the slack
        times the lengths, and by roundings, which are fewer than the slack counts.
        """
        slack, factors = self.points.slack, self._factors[first:end]
        centres = (factors[:, :-1] / -2).T[:, None].contiguous()
        gaps = torch.clamp(centres, self._low, self._high).sub_(centres)
        lower = gaps.square_().sum(0) * (1 - slack) - 2 * slack * factors[:, -1]
        largest = (self._margins + (1 + 3 * slack) * self._bases).amax(1) + TINY
        found: NDArray[np.bool_] = lower.numpy() < largest.numpy()[:, None]
        return found

    def _candidates(self, cells: Rows, centres: Rows) -> tuple[Rows, Rows]:
        """Find the pairs of a point, by its slot, and a centre that may be nearer than all before it."""
        part = torch.from_numpy(cells)
        factors = self._factors.index_select(0, torch.from_numpy(centres.ravel())).view(*centres.shape, -1)
        lower = torch.bmm(factors, self._columns.index_select(0, part))
        upper = self._upper(lower.amin(1), self._spreads.index_select(0, part))
        limit = torch.minimum(upper, self._margins.index_select(0, part), out=upper)
        # NumPy finds the few that are true faster than torch does.
        pairs, places = np.divmod(np.flatnonzero(lower.numpy() < limit.numpy()[:, None]), self._size)
        return cells[pairs // centres.shape[1]] * self._size + places, centres.ravel()[pairs]


def divided(rough: Tensor) -> Rows:
    """Divide points into cells, each time in halves across the axis along which a cell is longest.

    Args:
        rough: float32, N x D.

    Returns:
        int64, C x S: the rows of each cell; to fill all, some rows come twice.
    """
    count = 2 ** int(np.ceil(np.log2(max(1, len(rough) / _CELL))))
    size = -(-len(rough) // count)
    cells = torch.from_numpy(np.resize(np.arange(len(rough)), (1, count * size)))
    while len(cells) < count:
        some = rough[cells[:, ::_SAMPLE]]
        axes = (some.amax(1) - some.amin(1)).argmax(1)
        along = rough.take(cells * rough.shape[1] + axes[:, None]).numpy()
        half = cells.shape[1] // 2
        places = torch.from_numpy(np.argpartition(along, half, axis=1))
        cells = cells.gather(1, places).view(2 * len(cells), half)
    return cells.numpy()
