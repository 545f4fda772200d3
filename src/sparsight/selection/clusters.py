"""Choices by k-means clusters: the most typical point of each (TypiClust), or the one nearest to its centre."""

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsight.selection.neighbours import neighbour_distances
from sparsight.selection.points import Rows
from sparsight.selection.pool import Features, Pool

_NEIGHBOURS = 20
_SMALLEST = 5
"""Clusters of so many points or fewer are left out, for as long as there are others."""
_MOST_CLUSTERS = 500
_FEW_CLUSTERS = 50
"""For up to so many, k-means goes through all points again and again; for more, through batches of them."""


class Cluster(NamedTuple):
    """What may be chosen of a cluster: rows in ascending order; its centre; how many points and labels it holds."""

    rows: Rows
    centre: Features
    size: int
    labels: int


def typiclust(pool: Pool, budget: int, seed: int) -> Rows:
    """Choose the most typical point of each cluster, clusters with the fewest labels first, then the largest.

    Hacohen, Dekel and Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets (ICML
    2022): as many k-means clusters as there will be labels, 500 at most; typicality is the inverse of the mean distance
    to the 20 nearest neighbours in the cluster, or to half of it.
    """
    clusters = _clusters(pool, min(len(pool.known) + budget, _MOST_CLUSTERS), seed)
    ranked = []
    for rows, *_ in clusters:
        distances = neighbour_distances(pool.features[rows], min(_NEIGHBOURS, len(rows) // 2), seed)
        ranked.append(rows[np.argsort(distances, kind="stable")])
    return _dealt(ranked, [each.size > _SMALLEST for each in clusters], budget)


def kmeans_centres(pool: Pool, budget: int, seed: int) -> Rows:
    """Choose the point nearest to the centre of each k-means cluster, of clusters in the order of TypiClust."""
    clusters = _clusters(pool, min(len(pool.known) + budget, max(_MOST_CLUSTERS, budget)), seed)
    ranked = []
    for rows, centre, *_ in clusters:
        squared = np.square(pool.features[rows] - centre).sum(axis=1)
        ranked.append(rows[np.argsort(squared, kind="stable")])
    return _dealt(ranked, [each.size > _SMALLEST for each in clusters], budget)


def cluster(features: Features, count: int, seed: int) -> tuple[NDArray[np.int64], Features]:
    """Divide points by k-means.

    Args:
        features: N x D.
        count: of clusters, at most N.
        seed: of the first centres.

    Returns:
        The cluster of each point, and the centres, count x D.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if count <= _FEW_CLUSTERS:
        algorithm = KMeans(count, n_init=3, random_state=seed)
    else:
        algorithm = MiniBatchKMeans(count, batch_size=5000, n_init=3, random_state=seed)
    with threadpool_limits(1, "openmp"), warnings.catch_warnings():  # how threads add up would change the answer
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct points than clusters
        clusters = algorithm.fit_predict(features)
    return clusters.astype(np.int64), algorithm.cluster_centers_.astype(np.float32)


def _clusters(pool: Pool, count: int, seed: int) -> list[Cluster]:
    """Divide labelled and other points; clusters with the fewest labels come first, of these the largest."""
    everything = np.concatenate([pool.features, pool.known_features])
    found, centres = cluster(everything, min(count, len(everything)), seed)
    here, known = found[: len(pool)], found[len(pool) :]
    clusters = []
    for number, centre in enumerate(centres):
        rows, labels = np.flatnonzero(here == number), int((known == number).sum())
        clusters.append(Cluster(rows, centre, len(rows) + labels, labels))
    clusters.sort(key=lambda each: (each.labels, -each.size))
    return [each for each in clusters if len(each.rows)]


def _dealt(ranked: list[Rows], large: list[bool], budget: int) -> Rows:
    """Take the first of each large cluster, then the second of each, and so on; then small ones in the same way."""

    def deal(wanted: bool) -> Iterator[int]:
        those = [rows for rows, each in zip(ranked, large, strict=True) if each == wanted]
        for number in range(max(map(len, those), default=0)):
            yield from (int(rows[number]) for rows in those if number < len(rows))

    return np.fromiter(islice((row for wanted in (True, False) for row in deal(wanted)), budget), np.int64)
