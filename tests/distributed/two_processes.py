"""What test_horovod.py runs in two processes: each prints one line of JSON with what it saw."""

import json
import sys

import horovod.torch as hvd
import torch

from sparsight.models.world import ALONE, World
from sparsight.training.distributed import start_processes


def trained(rank: int) -> list[float]:
    """Train on another half of the data in each process, from other first weights; the result has to be one model."""
    torch.manual_seed(rank)
    model = torch.nn.Linear(3, 1)
    inputs = torch.arange(24, dtype=torch.float32).reshape(8, 3) / 24
    target = inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    optimizer = hvd.DistributedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.5), named_parameters=model.named_parameters()
    )
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    for _ in range(20):
        optimizer.zero_grad()
        half = slice(4 * rank, 4 * rank + 4)
        torch.nn.functional.mse_loss(model(inputs[half]), target[half]).backward()
        optimizer.step()
    return [value for parameter in model.parameters() for value in parameter.detach().flatten().tolist()]


def alone() -> list[float]:
    """Train as one process would, on all the data, from the first weights of rank 0."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    inputs = torch.arange(24, dtype=torch.float32).reshape(8, 3) / 24
    target = inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), target).backward()
        optimizer.step()
    return [value for parameter in model.parameters() for value in parameter.detach().flatten().tolist()]


def correlated(world: World, start: int, stop: int) -> list[float]:
    """The gradient of a loss over the cross-correlation of two views, such as that of Barlow Twins, for some images."""
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    views = torch.randn(2, 12, 5)
    mine = [model(view[start:stop]) for view in views]
    statistics = [world.sum(torch.stack([each.sum(dim=0), each.square().sum(dim=0)])) / 12 for each in mine]
    unit = [(each - mean) / (square - mean**2).sqrt() for each, (mean, square) in zip(mine, statistics, strict=True)]
    correlation = world.sum(unit[0].T @ unit[1]) / 12
    (correlation - torch.eye(3)).square().sum().backward(retain_graph=True)
    world.sum(mine[0].sum(dim=0)).sum().backward()  # a gradient that isn't laid out as the tensor is
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).tolist()


world = start_processes(2, 1)
rank = hvd.rank()
told = {
    "rank": rank,
    "size": hvd.size(),
    "sum": hvd.allreduce(torch.tensor([1.0 + rank, 10.0]), op=hvd.Sum).tolist(),
    "gathered": hvd.allgather(torch.tensor([[rank, rank]])).tolist(),
    "trained": trained(rank),
    "alone": alone(),
    "correlated": correlated(world, 5 * rank, 5 + 7 * rank),
    "correlated_alone": correlated(ALONE, 0, 12),
}
print("told " + json.dumps(told), file=sys.stderr, flush=True)
