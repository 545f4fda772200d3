"""Binary codes inside a network: the sign with a gradient, and what keeps bits balanced and unlike each other."""

from typing import Literal

import torch
from torch import Tensor

Rounding = Literal["deterministic", "stochastic"]


def binarise(values: Tensor, rounding: Rounding = "deterministic") -> Tensor:
    """Round to -1 or 1, and pass the gradient straight through as if this were tanh.

    Bengio et al. 2013, arXiv 1308.3432; the stochastic form is Toderici et al. 2016's, arXiv 1511.06085.

    Args:
        values: float, any shape.
        rounding: `deterministic` takes the sign, 1 for 0. `stochastic` takes 1 with probability (1 + tanh(x)) / 2, from
            torch's own generator: for training, where it explores.

    Returns:
        The same shape and dtype.
    """
    soft = values.tanh()
    threshold = torch.zeros_like(soft) if rounding == "deterministic" else 2 * torch.rand_like(soft) - 1
    hard = torch.where(soft >= threshold, 1.0, -1.0).to(values.dtype)
    return soft + (hard - soft).detach()


def imbalance(codes: Tensor) -> Tensor:
    """How far bits are from being 1 half of the time: the mean square of each bit's mean, 0 to 1.

    Args:
        codes: float, N x B, of -1 and 1.
    """
    return codes.mean(dim=0).square().mean()


def correlation(codes: Tensor) -> Tensor:
    """How alike bits are: the mean square of the correlations between different bits, 0 to 1.

    Args:
        codes: float, N x B, of -1 and 1.
    """
    count = codes.shape[1]
    if count == 1:
        return codes.new_zeros(())
    centred = codes - codes.mean(dim=0)
    scaled = centred / (centred.square().mean(dim=0) + 1e-4).sqrt()
    squares = (scaled.T @ scaled / len(codes)).square()
    return (squares.sum() - squares.diagonal().sum()) / (count * (count - 1))
