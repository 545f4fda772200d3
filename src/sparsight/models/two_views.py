"""Methods with two views of each image and a loss over the whole batch: SimCLR and Barlow Twins."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss, NTXentLoss
from lightly.models.modules import BarlowTwinsProjectionHead, SimCLRProjectionHead
from torch import Tensor, nn

from sparsight.errors import SparsightError
from sparsight.models.backbones import Backbone
from sparsight.models.self_supervised import SelfSupervised
from sparsight.models.world import ALONE, World


class TwoViews(SelfSupervised):
    """A backbone with a projection head, and a loss between the projections of both views of a batch.

    Args:
        backbone: an N x 3 x H x W to N x `num_features` network.
        head: makes its features projections.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    @abstractmethod
    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Compare the projections of a whole batch: float32, N x D each."""

    def forward(
        self, first: Tensor, second: Tensor, *, start: int, count: int, world: World = ALONE
    ) -> tuple[Tensor, Tensor]:
        """Compare two views of the same images.

        Each process works the whole batch's loss out, of projections that all have exchanged. What flows back to a
        projection is the sum over processes; gradients that are then averaged over them are those of one process.

        Args:
            first: n x 3 x H x W: one view of this process's images.
            second: the other.
            start: place in the batch of this process's first image.
            count: images in the batch, N.
            world: the processes that share it.

        Returns:
            The loss of the batch, a float32 scalar, and both views' projections, of length 1: float32, N x 2 x D; both
            the same in every process.
        """
        joined = [_join(self.head(self.backbone(view)).float(), start, count, world) for view in (first, second)]
        # In full precision also under autocast: bfloat16 knows similarities near 1 in steps of 0.004 only.
        with torch.autocast(first.device.type, enabled=False):
            loss = self.loss(*joined)
        return loss, F.normalize(torch.stack(joined, dim=1).detach(), dim=2)

    def after_step(self, projections: Tensor) -> None:
        """Keep nothing."""


@dataclass(frozen=True, kw_only=True)
class SimCLROptions:
    """What makes up SimCLR's task."""

    temperature: float = 0.5
    dimension: int = 128
    """Of projections."""


class SimCLR(TwoViews):
    """Tells each image's other view among all views of the batch (Chen et al. 2020, arXiv 2002.05709).

    Raises:
        SparsightError: an option out of its range.
    """

    def __init__(self, backbone: Backbone, options: SimCLROptions) -> None:
        if options.temperature <= 0 or options.dimension < 1:
            raise SparsightError("temperature must be more than 0, and dimension 1 or more.")
        features = int(backbone.num_features)
        super().__init__(backbone, SimCLRProjectionHead(features, features, options.dimension))
        self._loss = NTXentLoss(options.temperature)

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """NT-Xent; log(2 N - 1) for projections that tell nothing."""
        loss: Tensor = self._loss(first, second)
        return loss


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsOptions:
    """What makes up the task of Barlow Twins."""

    redundancy_weight: float = 5e-3
    """Of the correlations between different dimensions, which shall be 0."""
    dimension: int = 256
    """Of projections, and of the layers before. The paper's 8192 go with a million images."""


class BarlowTwins(TwoViews):
    """Makes dimensions of both views agree, and each other's independent (Zbontar et al. 2021, arXiv 2103.03230).

    Raises:
        SparsightError: an option out of its range.
    """

    def __init__(self, backbone: Backbone, options: BarlowTwinsOptions) -> None:
        if options.redundancy_weight < 0 or options.dimension < 2:
            raise SparsightError("redundancy_weight must be 0 or more, and dimension 2 or more.")
        head = BarlowTwinsProjectionHead(int(backbone.num_features), options.dimension, options.dimension)
        super().__init__(backbone, head)
        self._loss = BarlowTwinsLoss(options.redundancy_weight)

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """How far the cross-correlation matrix is from the identity."""
        loss: Tensor = self._loss(first, second)
        return loss


def _join(own: Tensor, start: int, count: int, world: World) -> Tensor:
    """Put the rows of all processes together, in the order of ranks; gradients pass."""
    return world.sum(F.pad(own, (0, 0, start, count - start - len(own))))
