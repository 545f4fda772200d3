"""Choosing what to label: one call for all strategies, with the random baseline beside what was chosen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.selection.coverage import Coverage, distances_when_chosen, measure_coverage
from sparsight.selection.need import classes_in_need, unsure_rows
from sparsight.selection.neighbours import neighbour_distances
from sparsight.selection.points import Floats, Rows
from sparsight.selection.pool import Pool
from sparsight.selection.reduction import Reduction
from sparsight.selection.strategies import STRATEGIES, WEIGHING, resolve_strategy

NO_REDUCTION = Reduction()
_NEIGHBOURS = 20


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen.

    Attributes:
        rows: int64, K: of the embeddings, in the order in which they were chosen.
        distances: float64, K: of each to the nearest one that was labelled or chosen before it, infinite where there is
            none; 1 - cos for cosine, Euclidean after a reduction.
        strategy: by which.
        why: why this strategy was taken, where it was left open; else empty.
        outliers: int64: rows that were left out beforehand, in ascending order.
        coverage: how well the choices cover what there was to choose from, and how well random ones would.
    """

    rows: Rows
    distances: Floats
    strategy: str
    why: str
    outliers: Rows
    coverage: Coverage

    def notes(self) -> list[str]:
        """Say what one should know of it, a sentence each."""
        coverage, found = self.coverage, []
        if self.why:
            found.append(f"{self.strategy} was taken by itself: {self.why}.")
        if len(self.outliers):
            found.append(f"{len(self.outliers):,} photos far from all others were left out beforehand, as outliers.")
        if coverage.means[-1] > coverage.random_means[-1]:
            found.append("On average photos are farther from these than from as many at random: these aren't typical.")
        if coverage.measured < coverage.points:
            found.append(f"What is covered was measured on {coverage.measured:,} of {coverage.points:,} photos.")
        return found


def select(
    embeddings: Any,
    budget: int,
    *,
    strategy: str = "auto",
    labelled: Any = None,
    labels: Sequence[str] = (),
    predicted: Sequence[str] = (),
    uncertainty: Floats | None = None,
    probabilities: NDArray[np.floating] | None = None,
    class_need: bool = False,
    metric: str = "cosine",
    reduction: Reduction = NO_REDUCTION,
    outlier_share: float = 0.0,
    seed: int = 0,
) -> Selection:
    """Choose what to label next.

    Args:
        embeddings: N x D floating-point numbers: a NumPy array, memory-mapped or not, or a torch tensor.
        budget: how many to choose.
        strategy: one of STRATEGIES; or `auto`, which goes by how many labels there will be, as RULES say.
        labelled: M x D, of what is labelled already.
        labels: M, the class of each of these.
        predicted: N, the class that a classifier gives each embedding.
        uncertainty: N, from 0, sure, to 1: how unsure a classifier is of each. MaxHerding and ProbCover weigh points by
            it, and BADGE knows better; other strategies choose among the ten times as many as they shall choose that
            are least sure.
        probabilities: N x classes, of a classifier; BADGE needs them.
        class_need: choose each time from the predicted class with the fewest labels, earlier choices included.
        metric: `cosine`, for which lengths of embeddings don't count, or `euclidean`.
        reduction: what embeddings are turned into before anything else.
        outlier_share: the share of embeddings that is left out beforehand: those farthest from their 20 nearest
            neighbours.
        seed: of all that is random.

    Raises:
        SparsightError: an argument is wrong, or goes with another one that isn't given.
    """
    if class_need:
        _check_need(labelled, labels, predicted)
    pool = Pool(
        values=embeddings,
        metric=metric,
        labelled=labelled,
        uncertainty=uncertainty,
        probabilities=probabilities,
        classes=len({*labels, *predicted} - {""}),
    )
    pool = _reduced(pool, reduction, seed)
    kept, outliers = _without_outliers(pool, outlier_share, seed)
    pool = pool.part(kept) if len(outliers) else pool
    if not 1 <= budget <= len(pool):
        left = f"; {len(outliers):,} more are left out as outliers" if len(outliers) else ""
        raise SparsightError(f"budget is {budget:,}; expected 1 to {len(pool):,}, the number of embeddings{left}.")
    name, why = resolve_strategy(strategy, len(pool.known) + budget)
    if class_need:
        order = _by_need(pool, budget, seed, name, np.asarray(labels), np.asarray(predicted)[kept])
    else:
        order = _chosen(pool, budget, seed, name)
    return Selection(
        rows=kept[order],
        distances=distances_when_chosen(pool.points, pool.known, order),
        strategy=name,
        why=why,
        outliers=outliers,
        coverage=measure_coverage(pool.points, pool.known, order, seed),
    )


def _check_need(labelled: Any, labels: Sequence[str], predicted: Sequence[str]) -> None:
    if not len(predicted):
        raise SparsightError("class_need goes by predicted classes, and there are none.", hint="Give predictions, too.")
    if len(labels) != (0 if labelled is None else len(labelled)):
        raise SparsightError(
            f"class_need counts labels: of {len(labelled):,} labelled embeddings, {len(labels):,} classes are given."
        )


def _reduced(pool: Pool, reduction: Reduction, seed: int) -> Pool:
    if reduction.method == "none":
        return pool
    features = np.concatenate([pool.features, pool.known_features])
    reduced = reduction(features, pool.metric, seed)
    return replace(pool, values=reduced[: len(pool)], labelled=reduced[len(pool) :], metric="euclidean")


def _without_outliers(pool: Pool, share: float, seed: int) -> tuple[Rows, Rows]:
    """Divide rows into those that are kept and outliers, both in ascending order."""
    count = int(share * len(pool))
    if not count:
        return np.arange(len(pool)), np.arange(0)
    ranked = np.argsort(neighbour_distances(pool.features, _NEIGHBOURS, seed), kind="stable")
    return np.sort(ranked[:-count]), np.sort(ranked[-count:])


def _chosen(pool: Pool, budget: int, seed: int, name: str) -> Rows:
    if pool.uncertainty is None or name in WEIGHING:
        return STRATEGIES[name](pool, budget, seed)
    rows = unsure_rows(pool, budget)
    return rows[STRATEGIES[name](pool.part(rows), budget, seed)]


def _by_need(
    pool: Pool,
    budget: int,
    seed: int,
    name: str,
    labels: NDArray[np.str_],
    predicted: NDArray[np.str_],
) -> Rows:
    """Choose of each class as many as it needs, and put them in the order of need."""
    wanted = list(islice(classes_in_need(labels.tolist(), predicted.tolist()), budget))
    chosen = {}
    for each, count in Counter(wanted).items():
        rows = np.flatnonzero(predicted == each)
        part = pool.part(rows, np.flatnonzero(labels == each))
        chosen[each] = iter(rows[_chosen(part, count, seed, name)])
    return np.array([next(chosen[each]) for each in wanted], np.int64)
