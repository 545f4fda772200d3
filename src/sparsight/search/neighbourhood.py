"""The learned code: neighbours among unlabelled embeddings get near codes, all others far ones."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sparsight.search.code import BinaryCode
from sparsight.search.projections import Sample, principal_components

_DIMENSIONS = 256
"""Principal components that are learned from, at most."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How the code is learned; the defaults were chosen on two kinds of features of CIFAR-10.

    Attributes:
        neighbours: from so many nearest ones a partner is drawn.
        hidden: units of the hidden layer.
        dropout: share of hidden units left out.
        noise: standard deviation of what is added to components, whose mean square is 1.
        temperature: that similarities of codes, from -1 to 1, are divided by.
        batch: pairs of a step.
        steps: at most; with few embeddings there are no more than 50 for each of their batches.
        learning_rate: the highest, of AdamW on one cycle.
    """

    neighbours: int = 20
    hidden: int = 512
    dropout: float = 0.2
    noise: float = 0.3
    temperature: float = 0.3
    batch: int = 256
    steps: int = 2000
    learning_rate: float = 3e-3


DEFAULTS = Learning()


def learned(sample: Sample, bits: int, seed: int, learning: Learning = DEFAULTS) -> BinaryCode:
    """Learn a code by contrast, as CIBHash does with two views of a photo (Qiu et al., IJCAI 2021).

    Here the two are an embedding and one of its nearest neighbours: which photos belong together is taken from how
    embeddings lie in groups, and what leads from group to group counts for more than single distances.

    Args:
        sample: float32 N x D, rows of length 1.
        bits: any number.
        seed: of weights and draws.
        learning: how.
    """
    inputs = _Inputs.of(sample)
    neighbours = nearest(inputs.values, learning.neighbours)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, last = nn.Linear(inputs.values.shape[1], learning.hidden), nn.Linear(learning.hidden, bits)
        network = nn.Sequential(first, nn.ReLU(), nn.Dropout(learning.dropout), last)
        _fit(network, inputs.values, neighbours, learning)
    weight = first.weight.detach() @ inputs.directions
    return BinaryCode(
        [(weight, first.bias.detach() - weight @ inputs.mean), (last.weight.detach(), last.bias.detach())]
    )


class _Inputs(NamedTuple):
    """Principal components, N x C, all scaled by one number; what makes them: C x D directions, after the mean, D."""

    values: Tensor
    directions: Tensor
    mean: Tensor

    @classmethod
    def of(cls, sample: Sample) -> "_Inputs":
        mean, components = principal_components(sample, min(_DIMENSIONS, sample.shape[1]))
        values = (sample - mean) @ components
        scale = 1 / max(float(np.sqrt(np.square(values).mean())), 1e-12)
        directions = torch.from_numpy(np.ascontiguousarray(components.T) * np.float32(scale))
        return cls(torch.from_numpy(values * np.float32(scale)), directions, torch.from_numpy(mean))


def nearest(values: Tensor, count: int) -> Tensor:
    """Find the neighbours of each of N x D values by cosine similarity, itself left out: int64, N x at most `count`."""
    units = nn.functional.normalize(values)
    count = min(count, len(units) - 1)
    found = []
    for first in range(0, len(units), 512):
        similarity = units[first : first + 512] @ units.T
        rows = torch.arange(len(similarity))
        similarity[rows, first + rows] = -math.inf
        found.append(similarity.topk(count, dim=1).indices)
    return torch.cat(found)


def _fit(network: nn.Sequential, values: Tensor, neighbours: Tensor, learning: Learning) -> None:
    batch = min(learning.batch, len(values))
    steps = min(learning.steps, 50 * math.ceil(len(values) / batch))
    optimizer = torch.optim.AdamW(network.parameters(), learning.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning.learning_rate, steps)
    for pairs in _draw(values, neighbours, batch, steps):
        loss = contrast(network(pairs + learning.noise * torch.randn_like(pairs)), learning.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _draw(values: Tensor, neighbours: Tensor, batch: int, steps: int) -> Iterator[Tensor]:
    """Draw embeddings, and one neighbour of each: 2B x D, partners half the length apart."""
    for _ in range(steps):
        rows = torch.randperm(len(values))[:batch]
        partners = neighbours[rows, torch.randint(neighbours.shape[1], (batch,))]
        yield values[torch.cat([rows, partners])]


def contrast(outputs: Tensor, temperature: float) -> Tensor:
    """Tell how badly partners are told from others by the bits of their codes (InfoNCE).

    The bits are signs, through which the gradient passes as if they were hyperbolic tangents.

    Args:
        outputs: float 2B x bits, partners half the length apart.
        temperature: of the softmax.
    """
    soft = outputs.tanh()
    codes = soft + (torch.where(outputs > 0, 1.0, -1.0) - soft).detach()
    similarity = codes @ codes.T / (outputs.shape[1] * temperature)
    similarity.fill_diagonal_(-math.inf)
    half = len(outputs) // 2
    return nn.functional.cross_entropy(similarity, torch.arange(2 * half).roll(half))
