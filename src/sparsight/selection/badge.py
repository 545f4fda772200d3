"""BADGE: choices that are unsure in many different ways."""

import numpy as np
import torch

from sparsight.errors import SparsightError
from sparsight.selection.points import Floats, Rows
from sparsight.selection.pool import Pool


def badge(pool: Pool, budget: int, seed: int) -> Rows:
    """Choose by k-means++ among the gradients that each point would send through a classifier's last layer.

    Ash, Zhang, Krishnamurthy, Langford and Agarwal, Deep Batch Active Learning by Diverse, Uncertain Gradient Lower
    Bounds (ICLR 2020). The gradient is the outer product of the probabilities, less 1 for the most probable class, and
    the embedding; distances follow from its factors, so it is never made. The longest one comes first.

    Raises:
        SparsightError: there are no probabilities.
    """
    if pool.probabilities is None:
        raise SparsightError(
            "The strategy badge needs a classifier's probabilities of each class.",
            hint="Give a classifier whose backbone made the embeddings, or take another strategy.",
        )
    errors = torch.tensor(pool.probabilities, dtype=torch.float32)
    errors[torch.arange(len(errors)), errors.argmax(1)] -= 1
    features = torch.from_numpy(pool.features)
    lengths = errors.square().sum(1) * features.square().sum(1)
    random = np.random.default_rng(seed)
    row = int(lengths.argmax())
    order, squared = [row], torch.full_like(lengths, torch.inf)
    while len(order) < budget:
        product = errors.mv(errors[row]) * features.mv(features[row])
        squared = torch.minimum(squared, (lengths + lengths[row] - 2 * product).clamp(min=0))
        squared[order] = 0
        row = _drawn(squared.double().numpy(), order, random)
        order.append(row)
    return np.array(order)


def _drawn(weights: Floats, order: list[int], random: np.random.Generator) -> int:
    """Draw a row as often as its weight says; where no weight is left, any that hasn't been drawn."""
    if not weights.any():
        weights = np.ones(len(weights))
        weights[order] = 0
    sums = weights.cumsum()
    return int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
