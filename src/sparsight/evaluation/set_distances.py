"""How far two sets are apart: three measures, each as a table of all pairs of the sets given."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.float64]
"""S x S: 0 between equal sets, 1 between those that share nothing."""


def nominal(sets: NDArray[np.bool_]) -> Distances:
    """0 between equal sets, 1 between all others.

    Args:
        sets: S x members: which members each set has; each has one.
    """
    sizes = sets.sum(axis=1)
    distances: Distances = 1.0 - ((_shared(sets) == sizes) & (sizes == sizes[:, None]))
    return distances


def jaccard(sets: NDArray[np.bool_]) -> Distances:
    """The part of two sets' union that they don't share (Jaccard 1912); arguments as above."""
    shared, sizes = _shared(sets), sets.sum(axis=1)
    distances: Distances = 1.0 - shared / (sizes + sizes[:, None] - shared)
    return distances


def masi(sets: NDArray[np.bool_]) -> Distances:
    """Measuring Agreement on Set-valued Items (Passonneau 2006, LREC); arguments as above.

    Jaccard's similarity counts in full where sets are equal, 2/3 where one holds the other, and 1/3 where they overlap
    otherwise.
    """
    shared, sizes = _shared(sets), sets.sum(axis=1)
    smaller, larger = np.minimum(sizes, sizes[:, None]), np.maximum(sizes, sizes[:, None])
    monotony = np.select([shared == larger, shared == smaller, shared > 0], [1.0, 2 / 3, 1 / 3], 0.0)
    distances: Distances = 1.0 - (1.0 - jaccard(sets)) * monotony
    return distances


def _shared(sets: NDArray[np.bool_]) -> NDArray[np.float64]:
    numbers = sets.astype(np.float64)
    shared: NDArray[np.float64] = numbers @ numbers.T
    return shared


DISTANCES: dict[str, Callable[[NDArray[np.bool_]], Distances]] = {"nominal": nominal, "jaccard": jaccard, "masi": masi}
