"""Barlow Twins' cross-correlation of two views' embeddings (Zbontar et al. 2021, arXiv 2103.03230)."""

from dataclasses import dataclass

import torch
from torch import Tensor

_OFF_DIAGONAL = 0.005
"""What the loss weighs redundancy with: the paper's."""


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlate each number of one view's embeddings with each of the other's, over images.

    Args:
        first: float, N x D, N of at least 2.
        second: the same images' other view, N x D.

    Returns:
        float32, D x D, each -1 to 1; rows belong to `first`. A number that is the same in all images has 0.
    """
    return _standardised(first).T @ _standardised(second) / len(first)


def _standardised(embeddings: Tensor) -> Tensor:
    centred = embeddings.float() - embeddings.float().mean(dim=0)
    return centred / (centred.square().mean(dim=0) + 1e-8).sqrt()


def barlow_loss(first: Tensor, second: Tensor) -> Tensor:
    """Ask each number to say the same of both views, and something else than the other numbers: a scalar.

    The diagonal's mean square distance from 1, and a part of the square of all others.
    """
    matrix = cross_correlation(first, second)
    diagonal = matrix.diagonal()
    others = matrix.square().sum() - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + _OFF_DIAGONAL * others) / len(matrix)


@dataclass(frozen=True)
class Agreement:
    """How far two views get the same embeddings, and how far its numbers repeat each other.

    Attributes:
        diagonal: mean of the cross-correlation's diagonal; 1 where each number says the same of both.
        off_diagonal: mean square of the rest; 0 where different numbers say different things.
    """

    diagonal: float
    off_diagonal: float

    @classmethod
    def of(cls, matrix: Tensor) -> "Agreement":
        """Read a cross-correlation matrix."""
        off = matrix - torch.diag(matrix.diagonal())
        count = len(matrix)
        return cls(float(matrix.diagonal().mean()), float(off.square().sum()) / max(1, count * (count - 1)))
