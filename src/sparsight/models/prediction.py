"""What a classifier says of photos, as rows: the label and the way to it, how sure it is, how unlike it they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsight.data.tree import ROOT
from sparsight.errors import SparsightError
from sparsight.models.familiarity import SHARE
from sparsight.models.folder import ModelDescription
from sparsight.models.labelling import Answers, Labeller
from sparsight.models.predictor import Outputs, Predictor


class Reader:
    """Reads what a classifier makes of images.

    Args:
        predictor: a classifier.
        familiar: the share of images like those trained on that shall count as familiar.

    Attributes:
        labels: what the columns of `probabilities` are of: the classes, or all nodes of a classifier with a hierarchy.
        levels: of the tree that its classes make.
        limit: the distance beyond which a photo is unfamiliar; None where the model can't tell.

    Raises:
        SparsightError: the model is no classifier, or the share isn't between 0 and 1.
    """

    def __init__(self, predictor: Predictor, familiar: float = SHARE) -> None:
        description = predictor.description
        if predictor.head is None:
            raise SparsightError(
                f"The model is a {description.kind}, which gives embeddings; expected a classifier.",
                hint="Train one on top of it with train_classifier.",
            )
        self._labeller = Labeller(description)
        self._names = _nodes(self._labeller)
        self.labels = labels_of(description)
        self.levels = self._labeller.tree.levels
        self.limit = predictor.familiarity.limit(familiar) if predictor.familiarity else None

    def read(self, outputs: Outputs) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
        """Tell of each of B images `label`, `score`, `levels`, `entropy`, `margin`, `distance` and `unfamiliar`.

        docs/prediction.md says what they mean. `rejected`: whether the label says that the image is none to classify.

        Returns:
            B rows, and float32, B x labels: the probability of each.
        """
        assert outputs.logits is not None  # noqa: S101 -- a classifier has some
        answers = self._labeller.read(outputs.logits)
        if self._labeller.hierarchy is None:
            probabilities = chances = outputs.logits.softmax(dim=1).cpu().numpy()
        else:
            probabilities, chances = answers.probabilities, answers.probabilities[:, self._labeller.tree.leaves]
        distances = [None] * len(chances) if outputs.distance is None else outputs.distance.tolist()
        rows = [
            self._answer(answers, place) | {"entropy": entropy, "margin": margin} | self._familiarity(distance)
            for place, (entropy, margin, distance) in enumerate(
                zip(entropies(chances).tolist(), margins(chances).tolist(), distances, strict=True)
            )
        ]
        return rows, probabilities

    def _answer(self, answers: Answers, place: int) -> dict[str, Any]:
        chosen, line = answers.chosen[place], answers.lines[place]
        return {
            "label": "" if chosen == ROOT else self._names[chosen],
            "score": float(answers.scores[place]),
            "levels": [
                {"label": self._names[node], "probability": float(answers.probabilities[place, node])}
                for node in line[line != ROOT]
            ],
            "rejected": self._labeller.rejects(chosen),
        }

    def _familiarity(self, distance: float | None) -> dict[str, Any]:
        unfamiliar = None if distance is None or self.limit is None else distance > self.limit
        return {"distance": distance, "unfamiliar": unfamiliar}


def labels_of(description: ModelDescription) -> tuple[str, ...]:
    """What a classifier tells probabilities of: its classes, or all nodes where it has a hierarchy."""
    return description.classes if description.hierarchy is None else _nodes(Labeller(description))


def _nodes(labeller: Labeller) -> tuple[str, ...]:
    return tuple(labeller.label(number) for number in range(len(labeller.tree)))


def entropies(chances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of each row of B x K probabilities as a part of the largest there can be: 0 sure, 1 at a loss."""
    values = chances.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(values > 0, values * np.log(values), 0.0)
    found: NDArray[np.float64] = -terms.sum(axis=1) / np.log(max(2, values.shape[1]))
    return np.clip(found, 0, 1)


def margins(chances: NDArray[np.floating]) -> NDArray[np.float64]:
    """By how much the most probable of each row of B x K probabilities is above the next: 0 to 1."""
    if chances.shape[1] < 2:
        return np.ones(len(chances))
    ordered = np.partition(chances.astype(np.float64), -2, axis=1)
    found: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return found
