"""How near the nearest neighbours are: small where points are dense, large for outliers."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sparsight.models.precision import best_device
from sparsight.selection.points import Floats
from sparsight.selection.pool import Features

_OTHERS = 20_000
"""Points among which neighbours are looked for, at most; of more points, as many at random."""
_PAIRS = 2**22


def squared_distances_to(others: Features | Tensor, features: Features) -> Iterator[tuple[slice, Tensor]]:
    """Give rough squared distances to M x D features, of N x D others, some rows at a time.

    Yields:
        Which of the N, and float32, rows x M, at least 0, on a GPU where there is one.
    """
    device = best_device()
    columns = torch.as_tensor(others, device=device)
    lengths = columns.square().sum(1)
    step = max(1, _PAIRS // max(1, len(others)))
    for first in range(0, len(features), step):
        rows = slice(first, min(first + step, len(features)))
        here = torch.from_numpy(features[rows]).to(device)
        found = torch.addmm(lengths, here, columns.T, alpha=-2).add_(here.square().sum(1, keepdim=True))
        yield rows, found.clamp_(min=0)


def neighbour_distances(features: Features, count: int, seed: int) -> Floats:
    """Find the mean distance of each point to its nearest neighbours.

    Args:
        features: N x D.
        count: how many neighbours; fewer where there are no more.
        seed: of which points are looked through, where there are more than 20,000.

    Returns:
        float64, N; 0 for a point alone.
    """
    count = min(count, len(features) - 1)
    means = np.zeros(len(features))
    if count < 1:
        return means
    others = np.sort(np.random.default_rng(seed).permutation(len(features))[:_OTHERS])
    for rows, squared in squared_distances_to(features[others], features):
        itself = np.flatnonzero((others >= rows.start) & (others < rows.stop))
        squared[others[itself] - rows.start, itself] = np.inf
        nearest = squared.topk(min(count, len(others) - 1) or 1, dim=1, largest=False).values
        means[rows] = nearest.double().sqrt().mean(1).cpu().numpy()
    return means
