"""What a classifier learns labels as: each a class of its own, or nodes of one tree."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.data.labels import Path, join_path, paths_in, split_paths
from sparsight.data.tree import Tree
from sparsight.errors import SparsightError
from sparsight.models.folder import Decision, HierarchyDescription
from sparsight.models.hierarchy import Heads, make_heads
from sparsight.models.labelling import descend, stop

Hierarchy = Literal["none", "per_parent", "leaves"]


class FlatLabels(nn.Module):
    """Labels as classes that know nothing of each other.

    Args:
        classes: C labels.

    Attributes:
        outputs: what logits stand for: the classes.

    Raises:
        SparsightError: a label holds several paths.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.outputs = tuple(classes)
        if several := [label for label in classes if len(paths_in(label)) > 1]:
            raise SparsightError(
                f"{len(several)} labels hold several paths, such as {several[0]!r}; without a hierarchy it is one.",
                hint="Set hierarchy to per_parent or leaves, or make the dataset with several_labels=false.",
            )

    def forward(self, logits: Tensor) -> Tensor:
        """Log-likelihood of each label: float, B x C."""
        return logits.log_softmax(dim=1)

    def predicted(self, logits: Tensor, truth: NDArray[np.int64]) -> NDArray[np.int64]:
        """Say which class the logits name: int64, B."""
        named: NDArray[np.int64] = logits.argmax(dim=1).cpu().numpy()
        return named


class TreeLabels(nn.Module):
    """Labels as nodes of the tree that they make; they may stop at inner nodes, and hold several paths.

    The likelihood of a path is the probability of its node; that of several paths is their geometric mean, so that each
    counts the same.

    Args:
        classes: C labels.
        kind: of the heads.

    Attributes:
        tree: their nodes.
        outputs: labels of the nodes that logits stand for.

    Raises:
        SparsightError: nowhere in the tree is there a choice.
    """

    def __init__(self, classes: Sequence[str], kind: Heads) -> None:
        super().__init__()
        self.classes, self.kind = tuple(classes), kind
        self.tree = Tree(path for label in classes for path in split_paths(label))
        if len(self.tree.leaves) < 2:
            raise SparsightError(
                f"The training labels are all on one way down: {', '.join(classes)}; there is nothing to tell apart.",
                hint="Label images of other classes, too.",
            )
        self.heads = make_heads(self.tree, kind)
        self.outputs = tuple(map(join_path, self.heads.outputs))
        shares = np.zeros((len(classes), len(self.tree)), np.float32)
        for row, label in zip(shares, classes, strict=True):
            numbers = [self.tree.numbers[path] for path in split_paths(label)]
            row[numbers] = 1 / len(numbers)
        self.shares: Tensor
        self.register_buffer("shares", torch.from_numpy(shares), persistent=False)
        self._meant = self._meanings()

    def forward(self, logits: Tensor) -> Tensor:
        """Log-likelihood of each label: float, B x C."""
        return nn.functional.linear(self.heads(logits), self.shares)

    def predicted(self, logits: Tensor, truth: NDArray[np.int64]) -> NDArray[np.int64]:
        """Say which class the most probable leaf counts as beside the true one, -1 where that isn't known: int64, B.

        What no class is called is numbered from C on.
        """
        chances = self.heads(logits).exp().cpu().numpy()
        leaves = stop(descend(self.tree, chances), chances, 0.0)
        return self._meant[leaves, truth]

    def _meanings(self) -> NDArray[np.int64]:
        """What each node counts as beside each true class, and in the last column beside an unknown one."""
        number_of = {label: number for number, label in enumerate(self.classes)}
        own = [number_of.get(join_path(path), len(self.classes) + node) for node, path in enumerate(self.tree.nodes)]
        table = np.repeat(np.array(own, np.int64)[:, None], len(self.classes) + 1, axis=1)
        at_or_below = self.tree.above[:-1] @ (self.shares.numpy().T > 0)
        numbers = np.arange(len(self.classes))
        table[:, :-1] = np.where(at_or_below, numbers, table[:, :-1])
        return table


def make_targets(classes: Sequence[str], hierarchy: Hierarchy) -> FlatLabels | TreeLabels:
    """Make what labels are learned as.

    Raises:
        SparsightError: the labels don't do for it.
    """
    return FlatLabels(classes) if hierarchy == "none" else TreeLabels(classes, hierarchy)


def describe_hierarchy(
    labels: FlatLabels | TreeLabels, *, decision: Decision, threshold: float, reject: Sequence[Path]
) -> HierarchyDescription | None:
    """Say how a classifier's logits become labels, before its heads are calibrated; None without a hierarchy.

    Args:
        labels: what it learns.
        decision: what makes a node the answer.
        threshold: how probable a node must be where the decision is to be confident.
        reject: nodes at or below which a photo is none to classify.

    Raises:
        SparsightError: a node of `reject` isn't among the labels, or there is no hierarchy to look for it in.
    """
    if isinstance(labels, FlatLabels):
        if reject:
            raise SparsightError(
                "reject names nodes of a taxonomy, but hierarchy is 'none'.",
                hint="Set hierarchy to per_parent or leaves, or leave reject out.",
            )
        return None
    if unknown := [join_path(path) for path in reject if path not in labels.tree.numbers]:
        first = ", ".join(join_path(labels.tree.nodes[number]) for number in labels.tree.level(1))
        raise SparsightError(
            f"reject names {', '.join(unknown)}, but no training image is labelled so. The first level has: {first}.",
            hint='Give labels as connect_db writes them, such as ["Sort Out"].',
        )
    return HierarchyDescription(
        heads=labels.kind,
        temperatures=dict.fromkeys(labels.heads.heads, 1.0),
        decision=decision,
        threshold=threshold,
        reject=tuple(map(join_path, reject)),
    )
