"""From a head's logits to the probabilities of all nodes of a tree: heads per parent, or one head over the leaves."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sparsight.data.labels import join_path
from sparsight.data.tree import ROOT, Tree

Heads = Literal["per_parent", "leaves"]
HEADS: tuple[str, ...] = get_args(Heads)


class HeadPerParent(nn.Module):
    """A softmax among the children of each parent; a node's probability is the product of those on the way to it.

    Local classifiers per parent node (Silla and Freitas 2011, doi 10.1007/s10618-010-0175-9). They share all layers but
    their rows of the last one, and are trained together: the loss of a label is the sum of those of the heads that it
    passes, and a label that stops at an inner node trains the heads down to there.

    Args:
        tree: N nodes.

    Attributes:
        outputs: the nodes that logits stand for: all of them, in their order.
        heads: the parents, as `join_path` writes them, the root first.
    """

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.outputs = tree.nodes
        self.heads = tuple(join_path(tree.path(parent)) for parent in tree.inner)
        self.families = [len(tree.children(parent)) for parent in tree.inner]
        self.levels = [len(tree.level(depth)) for depth in range(1, tree.levels + 1)]
        above = tree.parents - np.repeat([0, 0, *np.cumsum(self.levels)][: tree.levels], self.levels)
        self.parents: Tensor
        self.register_buffer("parents", torch.from_numpy(above), persistent=False)
        self.head_of: Tensor
        self.register_buffer(
            "head_of", torch.arange(len(self.heads)).repeat_interleave(torch.tensor(self.families)), persistent=False
        )

    def forward(self, logits: Tensor, temperatures: Tensor | None = None) -> Tensor:
        """Log-probabilities of all nodes.

        Args:
            logits: float, B x outputs.
            temperatures: float, heads: what each head's logits are divided by; nothing by default.

        Returns:
            float, B x N.
        """
        if temperatures is not None:
            logits = logits / temperatures[self.head_of]
        parts = torch.split(logits, self.families, dim=1)
        given_parent = torch.split(torch.cat([part.log_softmax(dim=1) for part in parts], dim=1), self.levels, dim=1)
        levels = [given_parent[0]]
        for own, parents in zip(given_parent[1:], torch.split(self.parents, self.levels)[1:], strict=True):
            levels.append(own + levels[-1][:, parents])
        return torch.cat(levels, dim=1)


class HeadOverLeaves(nn.Module):
    """One softmax over the leaves; a node's probability is the sum of those of the leaves below it.

    A label that stops at an inner node trains that sum.

    Args:
        tree: N nodes.
        outputs: numbers of the nodes that logits stand for; the leaves by default. An inner node among them stands for
            images of which nothing more is known.

    Attributes:
        outputs: their paths.
        heads: the root alone, as `join_path` writes it.
    """

    def __init__(self, tree: Tree, outputs: list[int] | None = None) -> None:
        super().__init__()
        numbers = tree.leaves.tolist() if outputs is None else outputs
        self.outputs = tuple(tree.nodes[number] for number in numbers)
        self.heads = (join_path(tree.path(ROOT)),)
        self.below: Tensor
        below = [np.flatnonzero(column) for column in tree.above[numbers].T]
        self.counts = [len(places) for places in below]
        self.register_buffer("below", torch.from_numpy(np.concatenate(below)), persistent=False)

    def forward(self, logits: Tensor, temperatures: Tensor | None = None) -> Tensor:
        """Log-probabilities of all nodes, as `HeadPerParent.forward` gives them."""
        chances = (logits if temperatures is None else logits / temperatures).log_softmax(dim=1)
        parts = torch.split(chances[:, self.below], self.counts, dim=1)
        return torch.stack([part.logsumexp(dim=1) for part in parts], dim=1)


def make_heads(tree: Tree, kind: Heads) -> HeadPerParent | HeadOverLeaves:
    """Make the heads of a tree."""
    return HeadPerParent(tree) if kind == "per_parent" else HeadOverLeaves(tree)


def temperatures_of(heads: HeadPerParent | HeadOverLeaves, by_head: Mapping[str, float]) -> Tensor:
    """Order temperatures by head: float32, heads."""
    return torch.tensor([by_head[name] for name in heads.heads])
