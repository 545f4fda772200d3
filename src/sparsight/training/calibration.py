"""Calibrates the heads of a hierarchical classifier: one temperature for each, found on the validation images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.labels import split_paths
from sparsight.data.tree import ROOT
from sparsight.models.classifier import Classifier
from sparsight.models.folder import ModelDescription
from sparsight.training.classifier import ClassifierOptions, logits_of
from sparsight.training.labelled import LabelledSplits
from sparsight.training.targets import FlatLabels, TreeLabels, make_targets

LEAST = 20
"""Validation images that a head must see; with fewer its temperature stays 1."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What calibration found.

    Attributes:
        temperatures: by head, named by its parent; above 1 where it was too sure of itself. 1 where nothing was found.
        images: by head, how many validation images it was found on; 0 where there were too few.
    """

    temperatures: dict[str, float]
    images: dict[str, int]

    @classmethod
    def none(cls, labels: TreeLabels) -> "Calibration":
        """No head is calibrated."""
        heads = labels.heads.heads
        return cls(temperatures=dict.fromkeys(heads, 1.0), images=dict.fromkeys(heads, 0))

    def put_into(self, description: ModelDescription) -> ModelDescription:
        """Copy the description of a hierarchical classifier with these temperatures."""
        assert description.hierarchy is not None  # noqa: S101 -- the caller's duty
        hierarchy = description.hierarchy.model_copy(update={"temperatures": self.temperatures})
        return description.model_copy(update={"hierarchy": hierarchy})

    def notes(self) -> list[str]:
        """What a reader of the results should know."""
        missing = [name or "the root" for name, count in self.images.items() if not count]
        if not missing:
            return []
        return [
            f"Fewer than {LEAST} validation images for the choice below {', '.join(missing)}: "
            "how sure the model is there wasn't calibrated."
        ]


def calibrated(classifier: Classifier, splits: LabelledSplits, options: ClassifierOptions) -> Calibration | None:
    """Calibrate a classifier's heads on the validation split; None where it has no hierarchy.

    Without validation images of their own, apart from those that it was trained on, no head is.
    """
    labels = make_targets(splits.classes, options.hierarchy)
    if isinstance(labels, FlatLabels):
        return None
    if np.isin(splits.valid, splits.train).any():
        return Calibration.none(labels)
    logits = logits_of(classifier, splits.images, splits.valid, options.augmentation)
    return calibrate(labels, logits, splits.labels[splits.valid].tolist())


def calibrate(labels: TreeLabels, logits: Tensor, truths: Sequence[str]) -> Calibration:
    """Find the temperature of each head under which the validation labels are most likely.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599), for all heads at once by L-BFGS. The logarithm of a
    temperature has a standard normal prior: a head that makes no mistake on its few validation images would otherwise
    be taken for infallible.

    Args:
        labels: what the classifier was trained on, on the CPU.
        logits: float, V x outputs: of the validation images, on the CPU.
        truths: V labels; those with a path that no training image has are left out.
    """
    paths = [[labels.tree.numbers.get(path, ROOT) for path in split_paths(label)] for label in truths]
    known = [place for place, numbers in enumerate(paths) if numbers and ROOT not in numbers]
    shares = np.zeros((len(known), len(labels.tree)))
    for row, place in zip(shares, known, strict=True):
        row[paths[place]] = 1 / len(paths[place])
    images = _images_by_head(labels, shares > 0)
    found = _most_likely(labels, logits.double()[known], torch.from_numpy(shares))
    temperatures = [each if count else 1.0 for each, count in zip(found, images, strict=True)]
    heads = labels.heads.heads
    return Calibration(
        temperatures=dict(zip(heads, temperatures, strict=True)), images=dict(zip(heads, images, strict=True))
    )


def _most_likely(labels: TreeLabels, logits: Tensor, shares: Tensor) -> list[float]:
    logarithms = torch.zeros(len(labels.heads.heads), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithms], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        likelihood = (shares * labels.heads(logits, logarithms.exp())).sum()
        whole = logarithms.square().sum() / 2 - likelihood
        whole.backward()
        value: float = whole.detach().item()
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return [float(each) for each in logarithms.detach().exp()]


def _images_by_head(labels: TreeLabels, named: NDArray[np.bool_]) -> list[int]:
    """Count the images that each head has to do with; 0 for too few."""
    tree = labels.tree
    passed = named @ tree.above[:-1]
    counts = [len(named)]
    if len(labels.heads.heads) > 1:
        counts = [int(passed[:, tree.children(parent)].any(axis=1).sum()) for parent in tree.inner]
    return [count if count >= LEAST else 0 for count in counts]
