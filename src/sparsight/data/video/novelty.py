"""Leaves out frames that show what the last one showed."""

import numpy as np
from numpy.typing import NDArray

_CELL = 8
"""Small pixels, so that something small that comes into view counts, which the mean of a whole frame would drown."""


class Novelty:
    """Tells whether a frame is new beside the last one that was.

    Args:
        least: difference from which it is, 0 to 255; see `difference`.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._last: NDArray[np.uint8] | None = None

    def __call__(self, pixels: NDArray[np.uint8]) -> bool:
        """Look at the next frame of the video, uint8 H x W x 3."""
        if self._last is not None and self.least > 0 and difference(self._last, pixels) < self.least:
            return False
        self._last = pixels
        return True


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Measure how much two pictures differ where they differ most.

    Args:
        one: uint8, H x W x 3.
        other: of the same size.

    Returns:
        The largest mean absolute difference of a cell of about 8 x 8 pixels, 0 to 255.
    """
    apart = np.abs(one.astype(np.int16) - other).sum(axis=2, dtype=np.int32)
    rows, columns = (_edges(length) for length in apart.shape)
    sums = np.add.reduceat(np.add.reduceat(apart, rows, axis=0), columns, axis=1)
    areas = np.diff(np.r_[rows, apart.shape[0]])[:, None] * np.diff(np.r_[columns, apart.shape[1]])
    return float((sums / (3 * areas)).max())


def _edges(length: int) -> NDArray[np.int64]:
    """Where cells start, all nearly as long."""
    return np.linspace(0, length, max(1, length // _CELL), endpoint=False).round().astype(np.int64)
