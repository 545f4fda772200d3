"""What a classifier says of images: probabilities of all nodes of its labels, the label chosen, and the way to it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.labels import is_under, join_path, split_path
from sparsight.data.tree import ROOT, Tree
from sparsight.models.folder import ModelDescription
from sparsight.models.hierarchy import HeadOverLeaves, HeadPerParent, make_heads, temperatures_of


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a classifier says of B images.

    Attributes:
        probabilities: float32, B x N: of each node of the tree, those above it included.
        lines: int64, B x levels: the nodes from the first level down to the most probable leaf; ROOT below it.
        chosen: int64, B: the node that is the answer; ROOT where none is sure enough.
        scores: float32, B: how probable the answer is; where there is none, the first node of the line.
    """

    probabilities: NDArray[np.float32]
    lines: NDArray[np.int64]
    chosen: NDArray[np.int64]
    scores: NDArray[np.float32]


class Labeller:
    """Turns a classifier's logits into labels, as its description says; also of one that knows no hierarchy.

    Without a hierarchy the answer is the most probable class, as ever; its line has the nodes above it, and a node's
    probability is the sum of those of the classes at or below it.

    Args:
        description: of a classifier.

    Attributes:
        tree: the nodes that its classes name, with those above them.

    Example:
        >>> network, description = load_classifier(folder)
        >>> labeller = Labeller(description)
        >>> answers = labeller.read(network(images))
        >>> [labeller.label(number) for number in answers.chosen]
        ['dog/poodle', 'cat']
    """

    def __init__(self, description: ModelDescription) -> None:
        paths = [split_path(label) for label in description.classes]
        self.tree = Tree(paths)
        self.hierarchy = description.hierarchy
        self.heads: HeadPerParent | HeadOverLeaves
        self.outputs = [self.tree.numbers[path] for path in paths]
        if self.hierarchy is None:
            self.heads = HeadOverLeaves(self.tree, self.outputs)
            self.temperatures = torch.ones(1)
        else:
            self.heads = make_heads(self.tree, self.hierarchy.heads)
            self.temperatures = temperatures_of(self.heads, self.hierarchy.temperatures)
        self._rejects = [split_path(label) for label in self.hierarchy.reject] if self.hierarchy else []

    @torch.no_grad()
    def read(self, logits: Tensor) -> Answers:
        """Say what logits, float B x outputs, mean."""
        probabilities: NDArray[np.float32] = self.heads(logits.float().cpu(), self.temperatures).exp().numpy()
        if self.hierarchy is None:
            chosen = np.array(self.outputs, np.int64)[logits.argmax(dim=1).cpu().numpy()]
            scores = logits.float().softmax(dim=1).max(dim=1).values.cpu().numpy()
            return Answers(probabilities=probabilities, lines=self.tree.lines[chosen], chosen=chosen, scores=scores)
        if self.hierarchy.decision == "expected_distance":
            chosen = least_distance(self.tree, probabilities)
            lines = self.tree.lines[chosen]
        else:
            lines = descend(self.tree, probabilities)
            chosen = stop(lines, probabilities, self.hierarchy.threshold)
        first = np.where(chosen == ROOT, lines[:, 0], chosen)
        scores = np.take_along_axis(probabilities, first[:, None], axis=1)[:, 0]
        return Answers(probabilities=probabilities, lines=lines, chosen=chosen, scores=scores)

    def label(self, number: int) -> str:
        """The label of a node, as `join_path` writes it; of the root, nothing."""
        return join_path(self.tree.path(number))

    def rejects(self, number: int) -> bool:
        """Whether a node says that the image is none to classify."""
        return any(is_under(self.tree.path(number), node) for node in self._rejects)


def descend(tree: Tree, probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Walk from the root to the most probable child, time and again: int64, B x levels; ROOT below the end."""
    lines = np.full((len(probabilities), tree.levels), ROOT, np.int64)
    at: NDArray[np.int64] = np.full(len(probabilities), ROOT, np.int64)
    for depth in range(1, tree.levels + 1):
        level = tree.level(depth)
        offered = np.where(tree.parents[level] == at[:, None], probabilities[:, level], -1)
        found = offered.max(axis=1) >= 0
        at = np.where(found, level[offered.argmax(axis=1)], at)
        lines[found, depth - 1] = at[found]
    return lines


def stop(lines: NDArray[np.int64], probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.int64]:
    """Find the last node of each line that is as probable as the threshold: int64, B; ROOT where the first isn't."""
    sure = (np.take_along_axis(probabilities, lines, axis=1) >= threshold) & (lines != ROOT)
    deep = np.logical_and.accumulate(sure, axis=1).sum(axis=1)
    return np.where(deep, np.take_along_axis(lines, np.maximum(deep - 1, 0)[:, None], axis=1)[:, 0], ROOT)


def least_distance(tree: Tree, probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Find the leaf whose expected distance to the true leaf, in edges of the tree, is least: int64, B.

    Conditional risk minimisation (Karthik et al. 2021, arXiv 2104.00795). If inner nodes could be the answer, too, it
    would be the deepest node more probable than 1/2.
    """
    between = tree.distances[np.ix_(tree.leaves, tree.leaves)]
    chosen: NDArray[np.int64] = tree.leaves[(probabilities[:, tree.leaves] @ between).argmin(axis=1)]
    return chosen
