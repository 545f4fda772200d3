"""How far a photo's embedding is from those that a classifier was trained on."""

import math
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparsight.errors import SparsightError

FAMILIARITY = "familiarity.safetensors"
SHARE = 0.95
"""Part of images like those trained on that count as familiar, unless somebody asks for another."""


class Familiarity(nn.Module):
    """The Mahalanobis distance of an embedding's traits to the nearest class of the training images.

    Lee et al. 2018, A Simple Unified Framework for Detecting Out-of-Distribution Samples, arXiv 1807.03888: to the mean
    of the class, by a covariance that the classes share; here divided by the root of the number of traits, so that
    training images are about 1 away. What the traits are, `traits` says.

    What it holds are averages: of no single image the embedding, but where a class has only one.

    Args:
        means: float32, C x D + 1: of the traits of each class.
        whitening: float32, D + 1 x D + 1: L of L L', the inverse of the shared covariance, divided by D + 1.
        calibration: float32, K at least 1: distances of images like those to come, in ascending order.
    """

    def __init__(self, means: Tensor, whitening: Tensor, calibration: Tensor) -> None:
        super().__init__()
        self.means: Tensor
        self.whitening: Tensor
        self.calibration: Tensor
        for name, tensor in (("means", means), ("whitening", whitening), ("calibration", calibration)):
            self.register_buffer(name, tensor)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Distances, float32 N, of embeddings, float N x D."""
        centre = self.means.mean(dim=0)
        points, means = (traits(embeddings) - centre) @ self.whitening, (self.means - centre) @ self.whitening
        squared = points.square().sum(1, keepdim=True) - 2 * points @ means.T + means.square().sum(1)
        return squared.min(dim=1).values.clamp(min=0).sqrt()

    def limit(self, share: float = SHARE) -> float:
        """The distance beyond which an image is unfamiliar, so that this share of those like the known ones isn't.

        As in conformal prediction: of K distances the ceil((K + 1) share)-th, or the largest where K is too small.

        Raises:
            SparsightError: the share isn't between 0 and 1.
        """
        if not 0 < share < 1:
            raise SparsightError(f"The share of familiar photos is {share:g}; expected more than 0 and less than 1.")
        count = len(self.calibration)
        return float(self.calibration[min(count, math.ceil((count + 1) * share)) - 1])

    def write(self, folder: Path) -> None:
        """Write it into a model folder."""
        save_file({name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}, folder / FAMILIARITY)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read it from a model folder, onto the CPU; None where there is none, as in those of older versions.

        Raises:
            SparsightError: the file is damaged.
        """
        path = folder / FAMILIARITY
        if not path.is_file():
            return None
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
            raise SparsightError(f"{path} can't be read: {error}") from error


def traits(embeddings: Tensor) -> Tensor:
    """What is compared of float N x D embeddings: the roots of their values, scaled to length 1, and that length.

    The values are averages of what passed a ReLU: few are large, and they spread the more the larger they are, which
    roots even out. How activation is shared out over the dimensions and how much there is are told apart, for either
    alone misses photos that the other finds; a negative value keeps its sign.

    Returns:
        float32, N x D + 1.
    """
    values = embeddings.float()
    roots = values.sign() * values.abs().sqrt()
    length = roots.square().sum(dim=1, keepdim=True).sqrt()
    return torch.cat([roots / length.clamp(min=1e-6), length], dim=1)
