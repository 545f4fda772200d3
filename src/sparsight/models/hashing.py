"""Hashing layers: between an encoder's features and the code that goes to the decoder, as signs or as floats."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsight.models.binary import Rounding, binarise

STAGE_BITS = 8
"""Signs that a stage adds to each cell: with cells of 8 x 8 pixels, an eighth of a bit a pixel."""
_MEAN_SIZE, _REST = (2 / math.pi) ** 0.5, (1 - 2 / math.pi) ** 0.5
"""Of a standard Gaussian: the mean of its absolute value, and its deviation from that."""


class CellCodes(nn.Module):
    """A hashing layer in one: a number from each channel, as a sign or, squeezed by tanh, as a float.

    Args:
        inward: from features to one number for each channel.
        outward: from the code to what the decoder begins with.
        binary: whether numbers become signs.
    """

    def __init__(self, inward: nn.Module, outward: nn.Module, *, binary: bool) -> None:
        super().__init__()
        self.inward, self.outward, self.binary = inward, outward, binary

    def encode(self, features: Tensor, rounding: Rounding) -> Tensor:
        """Make codes of features."""
        values: Tensor = self.inward(features)
        return binarise(values, rounding) if self.binary else values.tanh()

    def decode(self, code: Tensor, kept: Tensor | None) -> Tensor:
        """Give what the decoder begins with; all channels are kept."""
        decoded: Tensor = self.outward(code)
        return decoded


class StagedSigns(nn.Module):
    """A hashing layer in stages: each takes the signs of 8 projections of what the stages before it have left over.

    The decoder gets the sum of all stages. A code cut after any stage is a whole one of a lower rate, so that one
    network serves several. This is residual quantisation (Zeghidour et al. 2021, arXiv 2107.03312) with signs in place
    of code books.

    Args:
        latents: channels of the features.
        channels: signs in a cell, a multiple of 8.
    """

    def __init__(self, latents: int, channels: int) -> None:
        super().__init__()
        stages, scale = channels // STAGE_BITS, latents**-0.5
        self.inward = nn.Parameter(torch.randn(stages, STAGE_BITS, latents) * scale)
        self.outward = nn.Parameter(torch.randn(stages, latents, STAGE_BITS) * scale)
        self.rates = nn.Parameter(torch.zeros(stages, latents))

    @torch.no_grad()
    def begin_with(self, deviations: Tensor) -> None:
        """Begin with signs of single latents, always of those of which most is left.

        Args:
            deviations: float, `latents`: their standard deviations.
        """
        bits = torch.arange(STAGE_BITS)
        for inward, outward in zip(self.inward, self.outward, strict=True):
            chosen = deviations.argsort(descending=True, stable=True)[:STAGE_BITS]
            inward.zero_()[bits, chosen] = 1 / deviations[chosen]
            outward.zero_()[chosen, bits] = deviations[chosen] * _MEAN_SIZE
            deviations = deviations.scatter(0, chosen, deviations[chosen] * _REST)

    def encode(self, features: Tensor, rounding: Rounding) -> Tensor:
        """Make codes of features, stage by stage."""
        left, signs = features, []
        for inward, outward in zip(self.inward, self.outward, strict=True):
            signs.append(binarise(_project(inward, left), rounding))
            left = left - _project(outward, signs[-1])
        return torch.cat(signs, dim=1)

    def decode(self, code: Tensor, kept: Tensor | None) -> Tensor:
        """Add up the stages that are kept, and what was learned about this rate."""
        if kept is None:
            kept = torch.full((len(code),), code.shape[1], device=code.device)
        inside = torch.arange(code.shape[1], device=code.device) < kept.unsqueeze(1)
        outward = self.outward[: code.shape[1] // STAGE_BITS].transpose(0, 1).flatten(1)
        return _project(outward, code * inside[:, :, None, None]) + self.rates[kept // STAGE_BITS - 1, :, None, None]


def _project(matrix: Tensor, values: Tensor) -> Tensor:
    return F.conv2d(values, matrix[:, :, None, None])


def principal_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the directions in which rows, float N x D, vary most.

    Returns:
        The standard deviation along each, at least a thousandth of the first: float, `count`, falling; and the
        directions, orthonormal: float, `count` x D.
    """
    centred = (rows - rows.mean(dim=0)).double()
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    deviations = variances.clamp_min(0).sqrt().flip(0)[:count]
    return deviations.clamp_min(float(deviations[0]) / 1000).float(), vectors.T.flip(0)[:count].float().contiguous()
