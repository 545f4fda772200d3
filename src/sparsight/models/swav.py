"""SwAV: crops of an image predict each other's prototypes (Caron et al. 2020, arXiv 2006.09882)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from torch import Tensor

from sparsight.errors import SparsightError
from sparsight.models.backbones import Backbone
from sparsight.models.self_supervised import SelfSupervised, enqueue
from sparsight.models.world import ALONE, World

LARGE_CROPS = 2
LEAST_EPSILON = 0.005
"""Below it exp((cosine - 1) / epsilon) may be 0 for a whole prototype, in float64 too."""


@dataclass(frozen=True, kw_only=True)
class SwAVOptions:
    """What makes up the task of predicting prototypes."""

    prototypes: int = 300
    """Number of clusters, several times what one expects of classes."""
    dimension: int = 128
    """Of projections and prototypes."""
    hidden_dimension: int = 2048
    """Of the layer between backbone and projections."""
    temperature: float = 0.1
    """Divides the similarities from which a crop's prototype is predicted."""
    epsilon: float = 0.02
    """Of the entropy in Sinkhorn's assignments: the lower, the more an image goes to one prototype alone. The paper's
    0.05 gets stuck where images or steps are few: an untrained network's projections differ by less."""
    sinkhorn_iterations: int = 3
    queue_size: int = 2048
    """Images of earlier batches that take part in the assignment; 0 for none."""
    queue_start_epoch: int = 15
    """Epochs after which a trainer lets the queue take part."""
    freeze_prototypes_epochs: int = 1
    """Epochs in which a trainer leaves the prototypes as they are."""
    stop_when_stuck: bool = True
    """Whether a trainer ends once predictions have told nothing for many epochs."""


class SwAV(SelfSupervised):
    """A backbone with a 2-layer projection head, prototypes of length 1, and a queue of earlier projections.

    A training step is `loss, projections = swav(crops, ...)`, backward, an optimiser step, and then
    `swav.after_step(projections)`.

    Args:
        backbone: an N x 3 x H x W to N x `num_features` network, for images of any size.
        options: what makes up the task.

    Attributes:
        queue: float32, `queue_size` x 2 x `dimension`: projections of both large crops of earlier images.
        pointer: int64 scalar: the oldest of them, overwritten next.

    Raises:
        SparsightError: an option out of its range.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(self, backbone: Backbone, options: SwAVOptions) -> None:
        super().__init__()
        _check(options)
        self.options = options
        self.backbone = backbone
        self.head = SwaVProjectionHead(int(backbone.num_features), options.hidden_dimension, options.dimension)
        self.prototypes = SwaVPrototypes(options.dimension, options.prototypes)
        # The paper's have none. With one, what Sinkhorn compares would be no cosines any more.
        self.prototypes.heads[0].register_parameter("bias", None)
        self.prototypes.normalize()
        self.register_buffer("queue", torch.zeros(options.queue_size, LARGE_CROPS, options.dimension))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(
        self, crops: Sequence[Tensor], *, frozen: bool = False, with_queue: bool = False, world: World = ALONE
    ) -> tuple[Tensor, Tensor]:
        """Predict the prototype of each large crop from all other crops of the same image.

        Args:
            crops: this process's part of the batch, n x 3 x H x W each: two large ones, then small ones of one size.
            frozen: whether prototypes stay as they are.
            with_queue: whether the queue, which must be full then, takes part in the assignment.
            world: the processes that share the batch.

        Returns:
            The loss, a float32 scalar, the mean over this process's images; and the projections of all processes'
            large crops for `after_step`: float32, N x 2 x `dimension`, N being the whole batch.
        """
        self.prototypes.requires_grad_(not frozen)
        sizes = [list(same) for same in (crops[:LARGE_CROPS], crops[LARGE_CROPS:]) if same]
        features = torch.cat([self.backbone(torch.cat(same)) for same in sizes])
        projections = F.normalize(self.head(features).float(), dim=1).view(len(crops), len(crops[0]), -1)
        # In full precision also under autocast: bfloat16 knows similarities near 1 in steps of 0.004 only.
        with torch.autocast(projections.device.type, enabled=False):
            scores = self.prototypes(projections)
        large = projections[:LARGE_CROPS].detach()
        codes = self.assign(scores[:LARGE_CROPS].detach(), with_queue=with_queue, world=world)
        loss = swapped_prediction(scores, codes, self.options.temperature)
        return loss, world.gather(large.transpose(0, 1))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Keep prototypes apart: their length is given, so weight decay has no say, and they join in later."""
        others = [*self.backbone.parameters(), *self.head.parameters()]
        return [{"params": others}, {"params": list(self.prototypes.parameters()), "weight_decay": 0.0}]

    @torch.no_grad()
    def assign(self, scores: Tensor, *, with_queue: bool, world: World) -> Tensor:
        """Assign this process's images to prototypes, evenly over the batch of all, and over the queue.

        Args:
            scores: float32, 2 x n x `prototypes`: cosines of the large crops with the prototypes.
            with_queue: whether the queue takes part. Each process works on a part of it.
            world: the processes that share the batch.

        Returns:
            float32, as `scores`: the share of each image that goes to each prototype.
        """
        count = scores.shape[1]
        if with_queue:
            queued = self.queue.tensor_split(world.size)[world.rank].transpose(0, 1)
            with torch.autocast(queued.device.type, enabled=False):
                scores = torch.cat([scores, self.prototypes(queued)], dim=1)
        options = self.options
        codes = sinkhorn(scores, epsilon=options.epsilon, iterations=options.sinkhorn_iterations, world=world)
        return codes[:, :count]

    @torch.no_grad()
    def after_step(self, projections: Tensor) -> None:
        """Bring prototypes back to length 1, and put the projections in place of the oldest ones."""
        self.prototypes.normalize()
        if len(self.queue):
            enqueue(self.queue, self.pointer, projections)


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int, world: World = ALONE) -> Tensor:
    """Assign images to prototypes so that each prototype gets as much (Cuturi 2013, arXiv 1306.0895).

    lightly's `sinkhorn` computes the same, but reaches other processes through torch.distributed alone. Here nothing
    overflows either, however low epsilon is: it works on exp((cosine - 1) / epsilon), in float64.

    Args:
        scores: ... x n x K, cosines: this process's images.
        epsilon: the lower, the sharper.
        iterations: of scaling first prototypes, then images.
        world: the processes that have the other images.

    Returns:
        float32, as `scores`; each image's shares add up to 1.
    """
    plan = ((scores.double() - 1) / epsilon).exp()
    for _ in range(iterations):
        plan = plan / world.sum(plan.sum(dim=-2, keepdim=True))
        plan = plan / plan.sum(dim=-1, keepdim=True)
    return plan.float()


def swapped_prediction(scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The cross-entropy between the codes of each large crop and what the other crops of the image predict.

    Args:
        scores: float32, V x n x K: cosines of all crops with the prototypes, the large ones first.
        codes: float32, 2 x n x K: what each large crop is assigned to.
        temperature: divides the cosines.

    Returns:
        The mean over images and pairs of crops; log(K) for predictions that tell nothing.
    """
    predicted = F.log_softmax(scores / temperature, dim=-1)
    pairs = [(code, crop) for code in range(len(codes)) for crop in range(len(scores)) if crop != code]
    losses = [-(codes[code] * predicted[crop]).sum(dim=-1).mean() for code, crop in pairs]
    return torch.stack(losses).mean()


def _check(options: SwAVOptions) -> None:
    for name in ("dimension", "hidden_dimension", "sinkhorn_iterations"):
        if getattr(options, name) < 1:
            raise SparsightError(f"{name} is {getattr(options, name)}; expected 1 or more.")
    if options.prototypes < 2:
        raise SparsightError(f"prototypes is {options.prototypes}; expected 2 or more.")
    for name in ("queue_size", "queue_start_epoch", "freeze_prototypes_epochs"):
        if getattr(options, name) < 0:
            raise SparsightError(f"{name} is {getattr(options, name)}; expected 0 or more.")
    if options.temperature <= 0:
        raise SparsightError(f"temperature is {options.temperature}; expected more than 0.")
    if options.epsilon < LEAST_EPSILON:
        raise SparsightError(f"epsilon is {options.epsilon}; expected {LEAST_EPSILON} or more.")
