"""What networks that learn without labels have in common: a backbone to keep, projections, a ring of earlier ones."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from sparsight.models.backbones import Backbone


class SelfSupervised(nn.Module, ABC):
    """A backbone, and what is put round it while it learns.

    Everything that goes on from step to step is in the `state_dict`.

    Attributes:
        backbone: an N x 3 x H x W to N x `num_features` network: what pre-training is after.
    """

    backbone: Backbone

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is learned, in groups as an optimiser takes them."""
        return [{"params": [each for each in self.parameters() if each.requires_grad]}]

    @abstractmethod
    def after_step(self, projections: Tensor) -> None:
        """Do what a step leaves to do, with the projections of its whole batch, the same in every process."""


def enqueue(queue: Tensor, pointer: Tensor, projections: Tensor) -> None:
    """Put projections in place of the oldest ones of a queue, and move its pointer on, both in place.

    Args:
        queue: K x ..., a ring.
        pointer: int64 scalar: the oldest entry, overwritten next.
        projections: N x ..., N at most K.
    """
    places = (pointer + torch.arange(len(projections), device=queue.device)) % len(queue)
    queue[places] = projections
    pointer.add_(len(projections)).remainder_(len(queue))


def spread(projections: Tensor) -> Tensor:
    """How far projections are from collapse: 1 for evenly spread ones, 0 where all are the same.

    The standard deviation over the batch, averaged over dimensions, times the square root of their number, of
    projections of length 1 (Chen and He 2021, arXiv 2011.10566, figure 2).

    Args:
        projections: ... x D.
    """
    flat = projections.flatten(0, -2)
    return flat.std(dim=0).mean() * math.sqrt(flat.shape[1])
