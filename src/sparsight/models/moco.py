"""MoCo v2: momentum contrast with a queue (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297)."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from lightly.models.modules import MoCoProjectionHead
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sparsight.errors import SparsightError
from sparsight.models.backbones import Backbone
from sparsight.models.self_supervised import SelfSupervised, enqueue
from sparsight.models.world import ALONE, World


@dataclass(frozen=True, kw_only=True)
class MoCoOptions:
    """What makes up the contrastive task."""

    queue_size: int = 2048
    """Number of keys of earlier batches that serve as negatives."""
    temperature: float = 0.2
    encoder_momentum: float = 0.99
    """Part of the momentum encoder that stays at each step."""
    dimension: int = 128
    """Of the projections that are compared."""
    batch_norm: Literal["shuffle", "split", "plain"] = "shuffle"
    """Over whom batch norm takes its statistics, for on one device it tells query and key apart and so spoils the
    task. `shuffle`: keys, in a shuffled order, group by group; queries all together. `split`: queries group by group
    too, as one device each would. `plain`: all together. Never over the images of several processes."""
    batch_norm_groups: int = 4
    """In each process."""
    symmetric: bool = False
    """Whether a trainer takes each view as query and as key; the loss is the mean of both."""


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One process's part of a batch of N images, queries from one view and keys from the other.

    Keys are projected in another order than queries, and so beside other images: the batch norm that they go through
    tells nothing of their queries. Where several processes share the batch, each makes the views of the images that
    the order gives it; the paper makes views first and sends them between processes, which comes to the same.

    Attributes:
        queries: float, n x 3 x H x W: one view of the images from place `start` of the batch on.
        keys: float, n x 3 x H x W: the other view of the images at this process's places in `order`.
        order: int64, N: the places in the batch whose keys the processes project, one process after the other.
        start: the place of this process's first query.
    """

    queries: Tensor
    keys: Tensor
    order: Tensor
    start: int = 0


class MoCo(SelfSupervised):
    """Query and momentum encoder, each a backbone with a 2-layer projection head, and the queue.

    A training step is `loss, keys = moco(direction)`, backward, an optimiser step, and then `moco.after_step(keys)`;
    with two directions, one from each view to the other, the loss is symmetric.

    Args:
        backbone: the query backbone, an N x 3 x H x W to N x `num_features` network; the momentum encoder starts as
            its copy.
        options: what makes up the task.

    Attributes:
        backbone: the query backbone.
        queue: float32, `queue_size` x `dimension`, of length 1 each; random to begin with.
        pointer: int64 scalar: the oldest key, overwritten next.

    Raises:
        SparsightError: an option out of its range.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(self, backbone: Backbone, options: MoCoOptions) -> None:
        super().__init__()
        _check(options)
        self.options = options
        features = int(backbone.num_features)
        self.backbone = backbone
        self.head = MoCoProjectionHead(features, features, options.dimension)
        self.momentum_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.momentum_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(options.queue_size, options.dimension), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(self, *directions: Direction, world: World = ALONE, groups: int | None = None) -> tuple[Tensor, Tensor]:
        """Compare two views of the same images, in one direction or, symmetrically, in both.

        Args:
            directions: this process's part of the batch.
            world: the processes that share the batch.
            groups: in which batch norm takes its statistics here, `batch_norm_groups` unless given.

        Returns:
            The loss, a float32 scalar, the mean over this process's queries; and the keys for `after_step`, the same
            in every process: float32, N (two directions: 2 N) x `dimension`, N being the whole batch.
        """
        groups = groups or self.options.batch_norm_groups
        losses, keys = [], []
        for direction in directions:
            found = world.gather(self.project_keys(direction.keys, groups))[direction.order.argsort()]
            positives = found[direction.start : direction.start + len(direction.queries)]
            queries = self.project_queries(direction.queries, groups)
            losses.append(info_nce(queries, positives, self.queue, self.options.temperature))
            keys.append(found)
        return torch.stack(losses).mean(), torch.cat(keys)

    def order(self, count: int, generator: Generator) -> Tensor:
        """Draw the order in which a batch's keys are projected: shuffled, so that batch norm gives nothing away.

        Returns:
            int64, `count`, on the CPU: places in the batch.
        """
        if self.options.batch_norm == "plain":
            return torch.arange(count)
        return torch.randperm(count, generator=generator)

    def project_queries(self, views: Tensor, groups: int) -> Tensor:
        """Project views with the query encoder: float32, N x `dimension`, of length 1 each."""
        return _project(self.backbone, self.head, views, groups if self.options.batch_norm == "split" else 1)

    @torch.no_grad()
    def project_keys(self, views: Tensor, groups: int) -> Tensor:
        """Project views with the momentum encoder, without gradient."""
        groups = 1 if self.options.batch_norm == "plain" else groups
        return _project(self.momentum_backbone, self.momentum_head, views, groups)

    @torch.no_grad()
    def after_step(self, projections: Tensor) -> None:
        """Move the momentum encoder towards the query encoder, and put the keys in place of the oldest ones."""
        moving: list[Tensor] = [*self.momentum_backbone.parameters(), *self.momentum_head.parameters()]
        targets: list[Tensor] = [*self.backbone.parameters(), *self.head.parameters()]
        # All at once: few kernels on a GPU.
        get_ema_multi_avg_fn(self.options.encoder_momentum)(moving, targets, None)  # type: ignore[no-untyped-call]
        enqueue(self.queue, self.pointer, projections)


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748): tell each query's key among the negatives.

    lightly's NTXentLoss computes the same with a bank of its own, but keeps that bank out of checkpoints.

    Args:
        queries: N x D, of length 1 each; so are `keys` (N x D) and `negatives` (K x D).
        keys: the positives, in the queries' order.
        negatives: shared by all queries.
        temperature: divides the similarities.

    Returns:
        The mean loss; log(K + 1) for embeddings that tell nothing.
    """
    # In full precision also under autocast: bfloat16 knows similarities near 1 in steps of 0.004 only.
    with torch.autocast(queries.device.type, enabled=False):
        positive = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def _project(backbone: nn.Module, head: nn.Module, views: Tensor, groups: int) -> Tensor:
    """Project group by group: batch norm alone joins the images of a batch, so this splits its statistics."""
    projections = torch.cat([head(backbone(group)) for group in views.tensor_split(groups)])
    return F.normalize(projections.float(), dim=1)


def _check(options: MoCoOptions) -> None:
    if options.queue_size < 1 or options.dimension < 1 or options.batch_norm_groups < 1:
        raise SparsightError("queue_size, dimension and batch_norm_groups must be 1 or more.")
    if options.temperature <= 0:
        raise SparsightError(f"temperature is {options.temperature}; expected more than 0.")
    if not 0 <= options.encoder_momentum <= 1:
        raise SparsightError(f"encoder_momentum is {options.encoder_momentum}; expected 0 to 1.")
    if options.batch_norm not in {"shuffle", "split", "plain"}:
        raise SparsightError(f"batch_norm is {options.batch_norm!r}; expected shuffle, split or plain.")
