"""How good predictions are: per class and over all, with what makes two evaluations comparable."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from sparsight.errors import SparsightError

METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
CALIBRATION_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a classifier said about N images whose labels are known.

    Attributes:
        ids: N image ids.
        truth: N labels.
        predicted: N labels, the most probable ones.
        scores: float, N: the probability of the predicted label, 0 to 1.
    """

    ids: Sequence[str]
    truth: Sequence[str]
    predicted: Sequence[str]
    scores: NDArray[np.floating]

    @classmethod
    def of_probabilities(
        cls, ids: Sequence[str], truth: Sequence[str], probabilities: NDArray[np.floating], classes: Sequence[str]
    ) -> Self:
        """Take the most probable class of each image.

        Args:
            ids: N image ids.
            truth: N labels.
            probabilities: float, N x C.
            classes: the C labels, in the order of the columns.
        """
        predicted = np.array(classes, object)[probabilities.argmax(axis=1)].tolist()
        return cls(ids=ids, truth=truth, predicted=predicted, scores=probabilities.max(axis=1))

    def digest(self) -> str:
        """Hash which images these are, with their true labels, whatever their order."""
        pairs = sorted(zip(self.ids, self.truth, strict=True))
        return hashlib.sha256(repr([(str(id_), str(label)) for id_, label in pairs]).encode()).hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """One row per image: id, label, predicted, score."""
        columns = {"id": self.ids, "label": self.truth, "predicted": self.predicted, "score": self.scores}
        return pd.DataFrame(columns)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassMetrics(_Stored):
    """Of one class: precision, recall, F1 (0 where undefined), and the number of its images."""

    precision: float
    recall: float
    f1: float
    support: int


class Metrics(_Stored):
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

    def overall(self) -> dict[str, float]:
        """The numbers over all classes, by name."""
        return {name: getattr(self, name) for name in ("accuracy", "macro_f1", "weighted_f1", "calibration_error")}


def evaluate(predictions: Predictions, classes: Sequence[str], *, split: str = "test") -> Metrics:
    """Measure predictions.

    Args:
        predictions: of at least one image.
        classes: every class the model knows. Classes found only in the truth are added after them: the model never
            saw one, so they count as wrong.
        split: which split the images are from.
    """
    truth, predicted = np.asarray(predictions.truth, object), np.asarray(predictions.predicted, object)
    labels = [*classes, *sorted(set(truth) - set(classes))]
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
        calibration_error=calibration_error(np.asarray(predictions.scores), truth == predicted),
        classes=per_class,
        confusion=confusion_matrix(truth, predicted, labels=labels).tolist(),
    )


def calibration_error(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Expected calibration error of top-label scores (Guo et al. 2017, arXiv 1706.04599): 15 bins of equal width."""
    bins = np.clip((scores * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=scores, minlength=CALIBRATION_BINS) - np.bincount(
        bins, weights=right, minlength=CALIBRATION_BINS
    )
    return float(np.abs(gaps).sum() / len(scores))


def read_metrics(path: Path) -> Metrics:
    """Read and check a metrics.json.

    Raises:
        SparsightError: it isn't there, or isn't one.
    """
    try:
        return Metrics.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise SparsightError(f"{path} can't be read as metrics: {error}") from error


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
