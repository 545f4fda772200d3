"""What all probabilities of a tree's nodes tell beside the answers: how near the next ones are, and how sure to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.labels import join_path
from sparsight.data.tree import ROOT, Tree
from sparsight.evaluation.calibration import calibration_error
from sparsight.evaluation.hierarchy import HierarchyMetrics, TrueLabels
from sparsight.models.folder import ModelDescription
from sparsight.models.labelling import Answers, Labeller

NEAREST = (1, 2, 5)
"""How many of the most probable leaves hdist@k looks at, where there are more."""
THRESHOLDS = np.round(np.linspace(0, 1, 101), 2)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """What a classifier says of N images whose labels are known.

    Attributes:
        tree: of the classifier.
        answers: as it gives them.
        uncalibrated: the same with all temperatures at 1; None where it has none.
    """

    tree: Tree
    answers: Answers
    uncalibrated: Answers | None = None

    @classmethod
    def of(cls, description: ModelDescription, logits: Tensor) -> Self:
        """Read the logits, float N x outputs, of the classifier that a description tells of."""
        labeller = Labeller(description)
        hierarchy = description.hierarchy
        if hierarchy is None:
            return cls(tree=labeller.tree, answers=labeller.read(logits))
        plain = hierarchy.model_copy(update={"temperatures": dict.fromkeys(hierarchy.temperatures, 1.0)})
        uncalibrated = Labeller(description.model_copy(update={"hierarchy": plain})).read(logits)
        return cls(tree=labeller.tree, answers=labeller.read(logits), uncalibrated=uncalibrated)


def with_ranking(metrics: HierarchyMetrics, truth: Sequence[str], ranked: Ranked) -> HierarchyMetrics:
    """Add what takes the probabilities of all nodes: hdist@k, and calibration errors by level."""
    true = TrueLabels(truth, map(join_path, ranked.tree.nodes))
    levels = []
    for depth, level in enumerate(metrics.levels, start=1):
        errors = [
            each and level_calibration(true, ranked.tree, each, depth) for each in (ranked.answers, ranked.uncalibrated)
        ]
        levels.append(level.model_copy(update={"calibration_error": errors[0], "uncalibrated_error": errors[1]}))
    found = distances_at(true, ranked.tree, ranked.answers.probabilities)
    return metrics.model_copy(update={"levels": levels, "distance_at": found})


def distances_at(true: TrueLabels, tree: Tree, probabilities: NDArray[np.floating]) -> dict[int, float]:
    """hdist@k: the mean severity of the k most probable leaves (Bertinetto et al. 2020), for each k below their number.

    Args:
        true: labels of N images.
        tree: of the classifier; its nodes are known there.
        probabilities: float, N x nodes of that tree.
    """
    ranks = [k for k in NEAREST if k < len(tree.leaves)]
    if not ranks:
        return {}
    order = np.argsort(-probabilities[:, tree.leaves], axis=1, kind="stable")[:, : ranks[-1]]
    severities = true.severity(_into(true, tree)[tree.leaves[order]])
    return {k: float(severities[:, :k].mean()) for k in ranks}


def level_calibration(true: TrueLabels, tree: Tree, answers: Answers, depth: int) -> float:
    """The calibration error of one level's node on each line, whether or not it was sure enough to be the answer."""
    there, scores, right = _at_level(true, tree, answers, depth)
    return calibration_error(scores[there], right[there])


def coverage(true: TrueLabels, ranked: Ranked) -> pd.DataFrame:
    """Tell how many images are answered, and how often rightly, for each threshold and level.

    Returns:
        threshold; level; coverage: answered images as a share of those whose label reaches the level; accuracy: among
        the answered ones, NaN where there is none.
    """
    rows = []
    for depth in range(1, ranked.tree.levels + 1):
        there, scores, right = _at_level(true, ranked.tree, ranked.answers, depth)
        reached = int(true.reach(depth).sum())
        for threshold in THRESHOLDS if reached else ():
            sure = there & (scores >= threshold)
            accuracy = float(right[sure].mean()) if sure.any() else np.nan
            rows.append((threshold, depth, sure.sum() / reached, accuracy))
    return pd.DataFrame(rows, columns=["threshold", "level", "coverage", "accuracy"])


def _at_level(
    true: TrueLabels, tree: Tree, answers: Answers, depth: int
) -> tuple[NDArray[np.bool_], NDArray[np.floating], NDArray[np.bool_]]:
    """Where line and label reach a level, how probable the line's node there is, and whether it is right."""
    line = answers.lines[:, depth - 1] if depth <= tree.levels else np.full(len(answers.lines), ROOT, np.int64)
    scores = np.take_along_axis(answers.probabilities, line[:, None], axis=1)[:, 0]
    return true.reach(depth) & (line != ROOT), scores, true.right_at(depth, _into(true, tree)[line])


def _into(true: TrueLabels, tree: Tree) -> NDArray[np.int64]:
    """Numbers that the nodes of a classifier's tree have among the true labels; the root's last."""
    return np.array([*(true.tree.numbers[node] for node in tree.nodes), ROOT], np.int64)
