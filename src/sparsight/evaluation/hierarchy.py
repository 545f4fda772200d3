"""How good labels of a taxonomy are: a near miss counts for more than a far one, an unfinished answer for what it says.

A label is its node and all nodes above it. What a prediction says below the place where a true label stops is neither
right nor wrong: it is cut there.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sparsight.data.labels import join_path, split_path, split_paths
from sparsight.data.tree import ROOT, Tree
from sparsight.evaluation.stored import ClassMetrics, Stored


class LevelMetrics(Stored):
    """Of one level, over the images whose true label reaches it."""

    images: int
    answered: int = Field(description="images whose predicted label reaches it, too")
    accuracy: float = Field(description="share of the images whose predicted label is right at this level")
    answered_accuracy: float = Field(description="the same among those answered; 0 where none is")
    calibration_error: float | None = Field(
        default=None, description="of the most probable node, whatever was answered"
    )
    uncalibrated_error: float | None = Field(default=None, description="the same with all temperatures at 1")


class HierarchyMetrics(Stored):
    """What a taxonomy adds to metrics.json."""

    precision: float = Field(description="hP: share of the predicted nodes that are true")
    recall: float = Field(description="hR: share of the true nodes that were predicted")
    f1: float = Field(description="hF: their harmonic mean")
    mistake_severity: float | None = Field(
        description="mean height of the lowest common ancestor over errors; null without"
    )
    distance: float = Field(description="the same over all images; what is right counts 0")
    distance_at: dict[int, float] = Field(
        default={}, description="hdist@k: the same, mean over the k most probable leaves, by k"
    )
    levels: list[LevelMetrics] = Field(description="from the first one down")
    nodes: dict[str, ClassMetrics] = Field(description="by label path, level by level")

    def overall(self) -> dict[str, float]:
        """The numbers over all nodes, by name."""
        found = {
            "hierarchical_precision": self.precision,
            "hierarchical_recall": self.recall,
            "hierarchical_f1": self.f1,
            "hierarchical_distance": self.distance,
        }
        return found if self.mistake_severity is None else found | {"mistake_severity": self.mistake_severity}


class TrueLabels:
    """The true labels of N images, as nodes of the tree of all labels that occur.

    Args:
        labels: N labels, as `join_paths` writes them.
        others: that predictions may name.

    Attributes:
        tree: the nodes of all of them.
        numbers: int64, N x K: the nodes that each image's label names, one of them time and again to fill the row.
    """

    def __init__(self, labels: Sequence[str], others: Iterable[str] = ()) -> None:
        paths = [split_paths(label) for label in labels]
        self.tree = Tree([*(path for each in paths for path in each), *map(split_path, others)])
        most = max(map(len, paths), default=1)
        filled = [[*each, *each[:1] * (most - len(each))] for each in paths]
        self.numbers = np.array([[self.tree.numbers[path] for path in each] for each in filled], np.int64)
        self._severities = self.tree.heights[self.tree.common]
        # What lies at or below the place where a label stops is no mistake.
        self._severities[:, :-1][self.tree.above] = 0

    def number(self, labels: Iterable[str]) -> NDArray[np.int64]:
        """Numbers of labels of one path each; ROOT for none."""
        return np.array([self.tree.numbers[split_path(label)] for label in labels], np.int64)

    def cut(self, predicted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take off what predictions, int64 N, say below the place where the true label stops."""
        inside = self.tree.above[predicted[:, None], self.numbers]
        return np.where(inside.any(axis=1), self._first(inside), predicted)

    def severity(self, predicted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Height of the lowest common ancestor with the true label; 0 for what is right. Predictions: int64, N x ..."""
        shape = (len(predicted), *[1] * (predicted.ndim - 1), -1)
        severities: NDArray[np.int64] = self._severities[predicted[..., None], self.numbers.reshape(shape)].min(axis=-1)
        return severities

    def reach(self, depth: int) -> NDArray[np.bool_]:
        """Which labels reach a level: bool, N."""
        deepest: NDArray[np.int64] = self.tree.depths[self.numbers].max(axis=1)
        return deepest >= depth

    def right_at(self, depth: int, predicted: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which predictions, int64 N, reach a level and are right at it: bool, N."""
        said, true = self.tree.lines[predicted, depth - 1], self.tree.lines[self.numbers, depth - 1]
        matching: NDArray[np.int64] = ((true == said[:, None]) & (true != ROOT)).sum(axis=1)
        return matching > 0

    def _first(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        first: NDArray[np.int64] = np.take_along_axis(self.numbers, chosen.argmax(axis=1)[:, None], axis=1)[:, 0]
        return first


def evaluate_hierarchy(truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> HierarchyMetrics:
    """Measure predictions against a taxonomy.

    hP, hR and hF are those of Kiritchenko et al. 2005, as Silla and Freitas 2011 (doi 10.1007/s10618-010-0175-9)
    recommend them; mistake severity is that of Bertinetto et al. 2020 (arXiv 1912.09393). An answer that stops too
    early is an error, whose lowest common ancestor is the answer itself.

    Args:
        truth: N labels, as `join_paths` writes them.
        predicted: N labels of one path each; empty where the classifier gave no answer.
        classes: labels of one path each that the classifier knows.
    """
    true = TrueLabels(truth, [*classes, *predicted])
    told = true.cut(true.number(predicted))
    said, meant = true.tree.above[told], true.tree.above[true.numbers].any(axis=1)
    hits, named, support = ((said & meant).sum(axis=0), said.sum(axis=0), meant.sum(axis=0))
    whole = ClassMetrics.of_counts(int(hits.sum()), int(named.sum()), int(support.sum()))
    severities = true.severity(told)
    counts = zip(true.tree.nodes, hits.tolist(), named.tolist(), support.tolist(), strict=True)
    return HierarchyMetrics(
        precision=whole.precision,
        recall=whole.recall,
        f1=whole.f1,
        mistake_severity=float(severities[severities > 0].mean()) if severities.any() else None,
        distance=float(severities.mean()),
        levels=[_level(true, told, depth) for depth in range(1, int(true.tree.depths[true.numbers].max()) + 1)],
        nodes={join_path(node): ClassMetrics.of_counts(*each) for node, *each in counts},
    )


def _level(true: TrueLabels, told: NDArray[np.int64], depth: int) -> LevelMetrics:
    reached = true.reach(depth)
    answered = reached & (true.tree.depths[told] >= depth)
    right = int((true.right_at(depth, told) & reached).sum())
    images, given = int(reached.sum()), int(answered.sum())
    return LevelMetrics(
        images=images, answered=given, accuracy=right / images, answered_accuracy=right / given if given else 0.0
    )
