"""What a classifier says of points, in choosing: those it is unsure of, and classes that have few labels."""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from sparsight.selection.points import Rows
from sparsight.selection.pool import Pool

_FACTOR = 10


def unsure_rows(pool: Pool, budget: int) -> Rows:
    """Find the ten times as many points as are to be chosen that a classifier is least sure of, in ascending order.

    Choosing different ones among these is as in Zhdanov, Diverse Mini-Batch Active Learning (2019).
    """
    assert pool.uncertainty is not None  # noqa: S101 -- the caller's duty
    return np.sort(np.argsort(-pool.uncertainty, kind="stable")[: _FACTOR * budget])


def classes_in_need(labels: Sequence[str], predicted: Sequence[str]) -> Iterator[str]:
    """Say of which class to choose a point next: the one with fewest labels, choices so far included.

    Of equals it is the first by name. A class comes as often as points are predicted to be of it.

    Args:
        labels: of what is labelled.
        predicted: the class of each point that may be chosen.
    """
    left, labelled = Counter(predicted), Counter(labels)
    queue = [(labelled[name], name) for name in left]
    heapq.heapify(queue)
    while queue:
        count, name = heapq.heappop(queue)
        yield name
        left[name] -= 1
        if left[name]:
            heapq.heappush(queue, (count + 1, name))
