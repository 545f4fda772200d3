"""Steps and epochs of a classifier's training: optimiser, learning rate, scores, what makes an epoch the best."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.models.classifier import Classifier
from sparsight.models.precision import mixed
from sparsight.training.distributed import Processes
from sparsight.training.schedules import cosine_with_warmup

WARMUP = 0.05
"""Part of all steps spent on raising the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch came to; losses are cross-entropies, scores 0 to 1. Epochs are numbered from 1."""

    number: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    valid_macro_f1: float

    def metrics(self) -> dict[str, float]:
        """The numbers by name, as they are tracked."""
        names = ("train_loss", "valid_loss", "valid_accuracy", "valid_macro_f1")
        return {name: getattr(self, name) for name in names}

    def better_than(self, other: "Epoch") -> bool:
        """Whether this epoch is the one to keep: by macro F1, among equals by loss."""
        return (self.valid_macro_f1, -self.valid_loss) > (other.valid_macro_f1, -other.valid_loss)


class Course:
    """The epochs of a training so far, and which is the best of them.

    Args:
        on_epoch: hears of each epoch.
    """

    def __init__(self, on_epoch: Callable[[Epoch], None]) -> None:
        self.epochs: list[Epoch] = []
        self._on_epoch = on_epoch

    @property
    def best(self) -> Epoch:
        """The first that none is better than; there is at least one epoch."""
        best = self.epochs[0]
        for epoch in self.epochs[1:]:
            if epoch.better_than(best):
                best = epoch
        return best

    def add(self, epoch: Epoch) -> bool:
        """Take an epoch in, and tell whether it is the best so far."""
        self.epochs.append(epoch)
        self._on_epoch(epoch)
        return self.best is epoch


class Steps:
    """Single steps of training: learning rate, loss, backward pass.

    Args:
        network: what to train.
        optimizer: over its parameters; the learning rates of its groups are their peaks.
        total: number of steps to come.
        likelihood: from logits to the log-likelihood of each of C labels.
        weights: float, C: of the labels in the loss.
        device: where the network is.
        precision: of matrix products.
        world: the processes that train the network.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        total: int,
        likelihood: Callable[[Tensor], Tensor],
        weights: Tensor | None,
        device: torch.device,
        precision: torch.dtype,
        world: Processes,
    ) -> None:
        self.network, self.optimizer = world.distribute(network, optimizer)
        self.likelihood, self.weights, self.device, self.precision, self.world = (
            likelihood,
            weights,
            device,
            precision,
            world,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.done, self.total = 0, total

    def step(self, inputs: Tensor, targets: Tensor, share: float = 1.0) -> Tensor:
        """Learn from one batch, or from this process's part of it, and return its loss, a scalar.

        Args:
            inputs: of the network.
            targets: int64, N: numbers of labels.
            share: what the part's loss counts for, so that the mean over all processes is the loss of the whole batch.
        """
        factor = cosine_with_warmup(self.done, self.total, round(WARMUP * self.total))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with mixed(self.device, self.precision):
            logits = self.network(inputs)
        loss = functional.nll_loss(self.likelihood(logits.float()), targets, weight=self.weights) * share
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.world.step(self.optimizer, self.scaler)
        self.done += 1
        return loss.detach()


def make_optimizer(
    network: nn.Module, kind: Literal["adamw", "sgd"], *, learning_rate: float, backbone_ratio: float, decay: float
) -> torch.optim.Optimizer:
    """Make the optimiser; a classifier's backbone gets `backbone_ratio` times the learning rate of its head."""
    groups = [{"params": [*network.parameters()], "lr": learning_rate}]
    if isinstance(network, Classifier):
        groups = [
            {"params": [*network.head.parameters()], "lr": learning_rate},
            {"params": [*network.backbone.parameters()], "lr": learning_rate * backbone_ratio},
        ]
    if kind == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(groups, weight_decay=decay)


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur in the truth, each at least -1 (scikit-learn takes 60 times as long)."""
    size = int(max(truth.max(), predicted.max())) + 2
    hits = np.bincount(truth[truth == predicted] + 1, minlength=size)
    support, named = np.bincount(truth + 1, minlength=size), np.bincount(predicted + 1, minlength=size)
    return float((2 * hits / np.maximum(support + named, 1))[support > 0].mean())


@contextmanager
def one_thread() -> Iterator[None]:
    """Let one thread do work too small to share: waking the others takes several times as long as the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
