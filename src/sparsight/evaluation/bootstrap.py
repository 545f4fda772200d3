"""How sure a difference between two models on the same test images is: a paired bootstrap of macro F1."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_CHUNK = 100
"""Draws measured at once, so that memory stays flat."""


def bootstrap_gain(
    truth: Sequence[str], ours: Sequence[str], theirs: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Difference in macro F1 of two models on the same images, and its 95 % interval.

    A paired bootstrap (Efron and Tibshirani 1993, percentile interval): images are drawn with replacement, and both
    models are measured on each draw. A class that a draw leaves out doesn't count in that draw's mean.

    Args:
        truth: N labels.
        ours: N predicted labels of one model.
        theirs: N predicted labels of the other.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        The difference, and the lower and upper end of the interval.
    """
    labels, codes = np.unique(np.concatenate([truth, ours, theirs]).astype(str), return_inverse=True)
    true, one, other = codes.reshape(3, len(truth))
    tables = [_indicators(true, predicted, len(labels)) for predicted in (one, other)]

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _macro_f1(weights, *tables[0]) - _macro_f1(weights, *tables[1])

    generator, share = np.random.default_rng(seed), np.full(len(truth), 1 / len(truth))
    draws = [
        difference(generator.multinomial(len(truth), share, size=min(_CHUNK, resamples - start)).astype(float))
        for start in range(0, resamples, _CHUNK)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.concatenate(draws), [tail, 100 - tail])
    return float(difference(np.ones((1, len(truth))))[0]), float(low), float(high)


def _indicators(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Three N x C tables of 0 and 1: the class is hit, is true, is predicted."""
    one_hot = np.eye(classes)
    return one_hot[truth] * (truth == predicted)[:, None], one_hot[truth], one_hot[predicted]


def _macro_f1(
    weights: NDArray[np.float64],
    hit: NDArray[np.float64],
    true: NDArray[np.float64],
    predicted: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Macro F1 under each row of weights, B x N: float, B."""
    support = weights @ true
    f1 = 2 * (weights @ hit) / np.maximum(support + weights @ predicted, 1)
    present = support > 0
    mean: NDArray[np.float64] = (f1 * present).sum(axis=1) / present.sum(axis=1)
    return mean
