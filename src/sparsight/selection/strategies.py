"""The strategies of choosing, and which one is taken by itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from sparsight.errors import SparsightError
from sparsight.selection.badge import badge
from sparsight.selection.clusters import kmeans_centres, typiclust
from sparsight.selection.farthest_point import farthest_point
from sparsight.selection.herding import max_herding, prob_cover
from sparsight.selection.points import Rows
from sparsight.selection.pool import Pool

Strategy = Callable[[Pool, int, int], Rows]
"""Takes a pool, how many to choose, and a seed; gives rows, in the order in which they were chosen."""


def _farthest(pool: Pool, budget: int, seed: int) -> Rows:
    start = int(np.random.default_rng(seed).integers(len(pool)))
    return farthest_point(pool.points, budget, labelled=pool.known, start=start).order


def _random(pool: Pool, budget: int, seed: int) -> Rows:
    return np.random.default_rng(seed).permutation(len(pool))[:budget]


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "farthest_point": _farthest,
        "typiclust": typiclust,
        "max_herding": max_herding,
        "prob_cover": prob_cover,
        "kmeans": kmeans_centres,
        "badge": badge,
        "random": _random,
    }
)
WEIGHING = frozenset({"max_herding", "prob_cover", "badge"})
"""Those that take uncertainty into account themselves."""


class Rule(NamedTuple):
    """A strategy that is taken by itself for up to so many labels, those that were there included."""

    most_labels: float
    strategy: str
    why: str


RULES = (
    Rule(500, "typiclust", "few labels are best spent on typical photos, one of each cluster"),
    Rule(np.inf, "max_herding", "with more labels than clusters, what counts is how well all photos are covered"),
)


def resolve_strategy(name: str, labels: int) -> tuple[str, str]:
    """Find a strategy by its name, or by `auto` the one for so many labels, those to be chosen included.

    Returns:
        Its name, and why it was taken; empty where it was asked for.

    Raises:
        SparsightError: the name is neither `auto` nor one of STRATEGIES.
    """
    if name == "auto":
        rule = next(rule for rule in RULES if labels <= rule.most_labels)
        return rule.strategy, rule.why
    if name not in STRATEGIES:
        raise SparsightError(f"strategy is {name!r}; expected one of auto, {', '.join(STRATEGIES)}.")
    return name, ""
