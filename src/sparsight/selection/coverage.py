"""How well choices cover the points, beside as many at random."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from sparsight.selection.covering import Covering, squared_distances
from sparsight.selection.points import Floats, Points, Rows

_MEASURED = 20_000
_STEPS = 30
_DRAWS = 5


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How far points are from the nearest choice, or from the nearest labelled point where that is nearer.

    Attributes:
        sizes: int64, S: numbers of choices, in ascending order, the last being all of them.
        radii, means: float64, S: distance of the farthest point and mean distance, after so many choices.
        random_radii, random_means: the same of random choices, as means over five draws.
        points: how many there were to choose from.
        measured: on how many of them; on all, if they are no more than 20,000, else on as many at random.
    """

    sizes: Rows
    radii: Floats
    means: Floats
    random_radii: Floats
    random_means: Floats
    points: int
    measured: int

    def table(self) -> pd.DataFrame:
        """Give the curves as columns size, radius, mean, random_radius, random_mean."""
        return pd.DataFrame(
            {
                "size": self.sizes,
                "radius": self.radii,
                "mean": self.means,
                "random_radius": self.random_radii,
                "random_mean": self.random_means,
            }
        )


def measure_coverage(points: Points, known: Floats, chosen: Rows, seed: int) -> Coverage:
    """Measure choices, and random ones.

    Args:
        points: all there were to choose from.
        known: exact rows of what was labelled before, M x D.
        chosen: rows, in the order of choice.
        seed: of the random ones.
    """
    random = np.random.default_rng(seed)
    sizes = np.unique(np.geomspace(1, len(chosen), _STEPS).round().astype(np.int64))
    measured = np.sort(random.permutation(len(points))[:_MEASURED])
    radii, means = _curve(points, known, chosen, sizes, measured)
    draws = [random.permutation(len(points))[: len(chosen)] for _ in range(_DRAWS)]
    others = [_curve(points, known, draw, sizes, measured) for draw in draws]
    random_radii, random_means = np.mean(others, axis=0)
    return Coverage(
        sizes=sizes,
        radii=radii,
        means=means,
        random_radii=random_radii,
        random_means=random_means,
        points=len(points),
        measured=len(measured),
    )


def _curve(points: Points, known: Floats, chosen: Rows, sizes: Rows, measured: Rows) -> tuple[Floats, Floats]:
    covering = Covering(points, len(known) + len(chosen))
    covering.add(known)
    radii, means = [], []
    for size in sizes:
        covering.add(points.exact(chosen[covering.count - len(known) : size]))
        covering.update(measured)
        distances = points.distances(covering.squared[measured])
        radii.append(distances.max())
        means.append(distances.mean())
    return np.array(radii), np.array(means)


def distances_when_chosen(points: Points, known: Floats, chosen: Rows) -> Floats:
    """Find how far each choice was from the nearest one before it, labelled ones included.

    Returns:
        float64, K; infinite where there was none.
    """
    exact = np.concatenate([known, points.exact(chosen)])
    rows = torch.from_numpy(exact)
    lengths = rows.square().sum(1)
    squared = np.full(len(chosen), np.inf)
    for place in range(len(chosen)):
        number = len(known) + place
        if number:
            nearest = int((lengths[:number] - 2 * rows[:number].mv(rows[number])).argmin())
            squared[place] = squared_distances(exact[number : number + 1], exact[nearest])[0]
    return points.distances(squared)
