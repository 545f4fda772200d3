"""How good predictions are: per class and over all, with what makes two evaluations comparable."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from sparsight.data.labels import counts_as, is_sound, is_under, join_path, split_path, split_paths
from sparsight.data.tree import Tree
from sparsight.errors import SparsightError
from sparsight.evaluation.calibration import calibration_error
from sparsight.evaluation.hierarchy import HierarchyMetrics, evaluate_hierarchy
from sparsight.evaluation.stored import ClassMetrics, Stored

if TYPE_CHECKING:
    from sparsight.models.labelling import Answers, Labeller

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a classifier said about N images whose labels are known.

    Attributes:
        ids: N image ids.
        truth: N labels.
        predicted: N labels of one path each; empty where no answer was sure enough.
        scores: float, N: the probability of the predicted label, 0 to 1.
    """

    ids: Sequence[str]
    truth: Sequence[str]
    predicted: Sequence[str]
    scores: NDArray[np.floating]

    @classmethod
    def of_answers(cls, ids: Sequence[str], truth: Sequence[str], labeller: "Labeller", answers: "Answers") -> Self:
        """Take a classifier's answers on N images."""
        return cls(
            ids=ids,
            truth=truth,
            predicted=[labeller.label(number) for number in answers.chosen],
            scores=answers.scores,
        )

    def digest(self) -> str:
        """Hash which images these are, with their true labels, whatever their order."""
        pairs = sorted(zip(self.ids, self.truth, strict=True))
        return hashlib.sha256(repr([(str(id_), str(label)) for id_, label in pairs]).encode()).hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """One row per image: id, label, predicted, score."""
        columns = {"id": self.ids, "label": self.truth, "predicted": self.predicted, "score": self.scores}
        return pd.DataFrame(columns)


class Metrics(Stored):
    """Content of metrics.json: everything measured on one split."""

    split: str = Field(description="train, valid or test")
    images: int
    images_digest: str = Field(description="equal for two evaluations on the same images with the same labels")
    accuracy: float
    macro_f1: float = Field(description="mean over the classes that occur in the truth")
    weighted_f1: float = Field(description="the same, weighted by support")
    calibration_error: float = Field(description="expected difference of score and accuracy, 15 bins")
    classes: dict[str, ClassMetrics]
    confusion: list[list[int]] = Field(description="row: true class, column: predicted, both in the order of classes")
    hierarchy: HierarchyMetrics | None = Field(default=None, description="where labels branch at more than one node")
    reject: ClassMetrics | None = Field(default=None, description="of images that are none to classify, where declared")

    def overall(self) -> dict[str, float]:
        """The numbers over all classes, by name."""
        found = {name: getattr(self, name) for name in ("accuracy", "macro_f1", "weighted_f1", "calibration_error")}
        if self.reject:
            found |= {"reject_precision": self.reject.precision, "reject_recall": self.reject.recall}
        return found | (self.hierarchy.overall() if self.hierarchy else {})


def evaluate(
    predictions: Predictions, classes: Sequence[str], *, split: str = "test", reject: Sequence[str] = ()
) -> Metrics:
    """Measure predictions.

    What a prediction says below the place where a true label stops is neither right nor wrong: it counts as that label.
    The calibration error is that of the answers given, each right if it is true as far as it goes.

    Args:
        predictions: of at least one image.
        classes: every class the model knows. Others that occur are added after them: the model never saw those found
            only in the truth, so they count as wrong.
        split: which split the images are from.
        reject: nodes at or below which an image is none to classify.
    """
    pairs = list(zip(predictions.predicted, predictions.truth, strict=True))
    truth, predicted = np.asarray(predictions.truth, object), np.array([counts_as(*pair) for pair in pairs], object)
    labels = [*classes, *sorted({*truth, *predicted} - set(classes))]
    present = [label for label in labels if label in set(truth)]
    columns = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0.0)
    per_class = {
        label: ClassMetrics(precision=p, recall=r, f1=f, support=int(s))
        for label, p, r, f, s in zip(labels, *columns, strict=True)
    }
    return Metrics(
        split=split,
        images=len(truth),
        images_digest=predictions.digest(),
        accuracy=float(accuracy_score(truth, predicted)),
        macro_f1=float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0.0)),
        weighted_f1=float(f1_score(truth, predicted, labels=present, average="weighted", zero_division=0.0)),
        calibration_error=_answers_error(predictions),
        classes=per_class,
        confusion=confusion_matrix(truth, predicted, labels=labels).tolist(),
        hierarchy=_hierarchy(predictions, classes),
        reject=_rejects(predictions, reject) if reject else None,
    )


def _answers_error(predictions: Predictions) -> float:
    answered = np.array([bool(label) for label in predictions.predicted], bool)
    right = np.array([is_sound(*pair) for pair in zip(predictions.predicted, predictions.truth, strict=True)], bool)
    return calibration_error(np.asarray(predictions.scores)[answered], right[answered])


def _hierarchy(predictions: Predictions, classes: Sequence[str]) -> HierarchyMetrics | None:
    """Measure against the taxonomy that the labels make; where one node alone branches they are mere classes."""
    known = {path for label in classes for path in split_paths(label)}
    tree = Tree([*known, *(path for label in predictions.truth for path in split_paths(label))])
    if sum(len(tree.children(number)) > 1 for number in tree.inner) < 2:
        return None
    return evaluate_hierarchy(predictions.truth, predictions.predicted, [*map(join_path, known)])


def _rejects(predictions: Predictions, reject: Sequence[str]) -> ClassMetrics:
    nodes = [split_path(label) for label in reject]

    def marked(labels: Sequence[str]) -> NDArray[np.bool_]:
        return np.array(
            [any(is_under(path, node) for path in split_paths(label) for node in nodes) for label in labels]
        )

    said, true = marked(predictions.predicted), marked(predictions.truth)
    return ClassMetrics.of_counts(int((said & true).sum()), int(said.sum()), int(true.sum()))


def read_metrics(path: Path) -> Metrics:
    """Read and check a metrics.json.

    Raises:
        SparsightError: it isn't there, or isn't one.
    """
    return Metrics.read(path, "metrics")


def read_predictions(path: Path) -> Predictions:
    """Read a predictions.csv.

    Raises:
        SparsightError: it isn't there, or isn't one.
    """
    try:
        frame = pd.read_csv(path, dtype={"id": str, "label": str, "predicted": str}, keep_default_na=False)
        return Predictions(
            ids=frame["id"].tolist(),
            truth=frame["label"].tolist(),
            predicted=frame["predicted"].tolist(),
            scores=frame["score"].to_numpy(float),
        )
    except (OSError, ValueError, KeyError) as error:
        raise SparsightError(f"{path} can't be read as predictions (id, label, predicted, score): {error}") from error
