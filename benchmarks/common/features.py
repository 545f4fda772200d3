"""Embeddings of a collection by a backbone pre-trained on it, and what a linear head learns from some of them."""

from dataclasses import dataclass

import numpy as np
from common.photo_sets import Collection, embedded_part
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sparsight.selection.need import unsure_rows
from sparsight.selection.pool import Pool
from sparsight.selection.strategies import STRATEGIES, WEIGHING


@dataclass(frozen=True, kw_only=True)
class Features:
    """Embeddings of the pool, for choosing as they are and for learning standardised, and of the test split."""

    pool: NDArray[np.float32]
    inputs: NDArray[np.float32]
    labels: NDArray[np.str_]
    test: NDArray[np.float32]
    truth: NDArray[np.str_]

    def head(self, chosen: NDArray[np.int64], labels: NDArray[np.str_]) -> LogisticRegression:
        """Learn what somebody said of some."""
        return LogisticRegression(C=0.01, max_iter=2_000).fit(self.inputs[chosen], labels)


def embed(collection: Collection, epochs: int) -> Features:
    """Embed photos by a backbone that was pre-trained on the pool."""
    part, embeddings = embedded_part(collection, 0, epochs)
    pool = part.pool()
    inputs = StandardScaler().fit(embeddings[pool]).transform(embeddings)
    return Features(
        pool=embeddings[pool],
        inputs=inputs[pool],
        labels=part.labels[pool],
        test=inputs[part.test],
        truth=part.labels[part.test],
    )


def ask(
    features: Features,
    known: NDArray[np.int64],
    head: LogisticRegression,
    budget: int,
    seed: int,
    strategy: str,
) -> NDArray[np.int64]:
    """Choose more by what a head says: `badge` by its probabilities, others by how small its margin is."""
    rest = np.setdiff1d(np.arange(len(features.pool)), known)
    probabilities = head.predict_proba(features.inputs[rest])
    second, highest = np.sort(probabilities, axis=1)[:, -2:].T
    pool = Pool(
        values=features.pool[rest],
        labelled=features.pool[known],
        uncertainty=None if strategy == "badge" else 1 - (highest - second),
        probabilities=probabilities,
    )
    if strategy in WEIGHING:
        return rest[STRATEGIES[strategy](pool, budget, seed)]
    rows = unsure_rows(pool, budget)
    return rest[rows[STRATEGIES[strategy](pool.part(rows), budget, seed)]]
