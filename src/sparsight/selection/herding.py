"""Choices that cover as much as can be: MaxHerding, ProbCover, and with a classifier's uncertainty UHerding.

All of them are greedy for the same sum over the points: how well each is covered by the choice that covers it best.
What a choice would add only falls as others are made, so what it would have added earlier is an upper bound, and only
the choices with the largest bounds are looked at anew.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparsight.models.precision import best_device
from sparsight.selection.clusters import cluster
from sparsight.selection.frontier import Frontier
from sparsight.selection.neighbours import squared_distances_to
from sparsight.selection.points import Floats, Rows
from sparsight.selection.pool import Features, Pool

Kernel = Callable[[Tensor], Tensor]
"""How well points at these squared distances are covered, from 0 to 1."""
_SAMPLE = 10_000
"""Points that are to be covered, or tell the radius, at most; of more points, as many at random stand for all."""
_FRONT = 64
_CHOSEN = -1.0
_PURITY = 0.95
_CLASSES = 10


def max_herding(pool: Pool, budget: int, seed: int) -> Rows:
    """Choose what makes the points most like a chosen one, by a Gaussian kernel of their distance.

    Bae, Noh and Sutherland, Generalized Coverage for More Robust Low-Budget Active Learning (ECCV 2024). The kernel's
    width is 1 for features of unit length, as there; for others the root mean square distance of two points, over the
    root of 2, which is 1 for unit vectors in all directions.

    Where uncertainty is given, points count the more the less sure a classifier is of them: Bae, Oliveira and
    Sutherland, Uncertainty Herding: One Active Learning Method for All Label Budgets (ICLR 2025).
    """
    width = 1.0 if pool.metric == "cosine" else _typical_distance(pool.features) / np.sqrt(2)
    return _greedy(pool, budget, seed, lambda squared: torch.exp(squared / -(width**2)))


def prob_cover(pool: Pool, budget: int, seed: int) -> Rows:
    """Choose what has most points within a radius that no earlier choice has within its own.

    Yehuda, Dekel, Hacohen and Weinshall, Active Learning Through a Covering Lens (NeurIPS 2022). The radius is the
    largest at which 95 % of the points have only points of their own k-means cluster around them, with as many clusters
    as classes, or 10 where their number isn't known. Once everything is covered, the rest is random.
    """
    radius = pure_radius(pool.features, pool.classes or _CLASSES, seed)
    return _greedy(pool, budget, seed, lambda squared: (squared < radius**2).float())


def pure_radius(features: Features, classes: int, seed: int) -> float:
    """Find the radius of ProbCover.

    Args:
        features: N x D.
        classes: number of clusters.
        seed: of clusters, and of the 10,000 points that stand for more.
    """
    some = features[_sample(len(features), seed)]
    clusters, _ = cluster(some, min(classes, len(some)), seed)
    pure_within = np.full(len(some), np.inf)  # a ball is pure up to the nearest point of another cluster
    for rows, squared in squared_distances_to(some, some):
        same = torch.from_numpy(clusters[rows, None] == clusters).to(squared.device)
        pure_within[rows] = squared.masked_fill(same, torch.inf).amin(1).sqrt().cpu().numpy()
    radius = float(np.quantile(pure_within, 1 - _PURITY))
    return radius if 0 < radius < np.inf else _typical_distance(some)


class _Coverage:
    """How well a sample of the points is covered by choices so far."""

    def __init__(self, pool: Pool, kernel: Kernel, seed: int) -> None:
        self._features, self._kernel = pool.features, kernel
        rows = _sample(len(pool), seed)
        device = best_device()
        self._sample = torch.from_numpy(pool.features[rows]).to(device)
        weights = np.ones(len(rows)) if pool.uncertainty is None else pool.uncertainty[rows]
        self._weights = torch.from_numpy(weights.astype(np.float32)).to(device)
        self._covered = torch.zeros(len(rows), device=device)
        self.cover(pool.known_features)

    def cover(self, features: Features) -> None:
        """Take more choices into account."""
        for _, squared in squared_distances_to(self._sample, features):
            self._covered = torch.maximum(self._covered, self._kernel(squared).amax(0))

    def gains(self, rows: Rows) -> Floats:
        """Tell what each of some points would add, if it were chosen next."""
        found = np.empty(len(rows))
        for part, squared in squared_distances_to(self._sample, self._features[rows]):
            added = (self._kernel(squared) - self._covered).clamp_(min=0)
            found[part] = (added @ self._weights).double().cpu().numpy()
        return found


def _greedy(pool: Pool, budget: int, seed: int, kernel: Kernel) -> Rows:
    """Choose again and again what adds most, of equals the lowest row; once nothing adds anything, at random."""
    coverage = _Coverage(pool, kernel, seed)
    keys = coverage.gains(np.arange(len(pool)))
    up_to_date = np.zeros(len(pool), np.int64)
    frontier = Frontier(keys)
    order: list[int] = []
    while len(order) < budget:
        rows, bound = frontier.top(_FRONT)
        stale = rows[up_to_date[rows] < len(order)]
        keys[stale] = np.minimum(keys[stale], coverage.gains(stale))
        up_to_date[stale] = len(order)
        best = int(rows[keys[rows].argmax()])
        if not bound.follows(float(keys[best]), best):
            continue
        if keys[best] <= 0:
            break
        coverage.cover(pool.features[best : best + 1])
        keys[best] = _CHOSEN
        order.append(best)
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(pool)), order))
    return np.concatenate([np.array(order, np.int64), rest[: budget - len(order)]])


def _sample(count: int, seed: int) -> Rows:
    return np.sort(np.random.default_rng(seed).permutation(count)[:_SAMPLE])


def _typical_distance(features: Features) -> float:
    """Give the root mean square distance of two points."""
    spread = float(np.sqrt(2 * features.var(axis=0, dtype=np.float64).sum()))
    return spread or 1.0
