"""What labels have bought so far: the score of each version of a model against the annotations it was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparsight.evaluation.annotations import COUNT
from sparsight.evaluation.plots import BLUE, DPI, GREEN, GREY, PALE
from sparsight.stores.lineage import Lineage
from sparsight.stores.registry import ModelVersion


@dataclass(frozen=True, kw_only=True)
class Point:
    """One version of a classifier.

    Attributes:
        reference: the version, such as `classifier/3`.
        stage: `candidate`, `production` or `archived`.
        annotations: of its dataset, the test split's left out, one for each annotator and photo.
        photos: that it was trained on, each counted once.
        score: on the test split.
        comparable: measured on the same test images as the newest version.
    """

    reference: str
    stage: str
    annotations: int
    photos: int
    score: float
    comparable: bool


def learning_curve(versions: Sequence[ModelVersion], metric: str = "macro_f1") -> list[Point]:
    """Read the curve off the versions of a model, by annotations; versions that don't tell both numbers are left out.

    Args:
        versions: oldest first.
        metric: as recorded with them.
    """
    told = [(version, Lineage.of_tags(version.tags)) for version in versions]
    told = [(version, lineage) for version, lineage in told if _tells(lineage, metric)]
    newest = told[-1][1].test_digest if told else ""
    points = [
        Point(
            reference=version.reference,
            stage=version.stage,
            annotations=int(lineage.dataset_counts[COUNT]),
            photos=int(lineage.dataset_counts.get("train", 0)),
            score=lineage.metrics[metric],
            comparable=lineage.test_digest == newest,
        )
        for version, lineage in told
    ]
    return sorted(points, key=lambda point: point.annotations)


def _tells(lineage: Lineage, metric: str) -> bool:
    return metric in lineage.metrics and isinstance(lineage.dataset_counts.get(COUNT), int)


def plot_learning_curve(path: Path, points: Sequence[Point], *, model: str, metric: str = "macro_f1") -> None:
    """Draw scores against annotations; versions measured on other test images stand apart, the one in use is ringed.

    Args:
        path: the PNG file.
        points: one or more, by annotations.
        model: the model's name.
        metric: the scores' name.
    """
    figure = Figure((7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    same = [point for point in points if point.comparable]
    others = [point for point in points if not point.comparable]
    axes.plot([each.annotations for each in same], [each.score for each in same], color=BLUE, marker="o", zorder=3)
    if others:
        places, scores = [each.annotations for each in others], [each.score for each in others]
        axes.scatter(places, scores, color=GREY, marker="x", label="on other test images", zorder=3)
    used = [point for point in points if point.stage == "production"]
    if used:
        axes.scatter(
            [each.annotations for each in used],
            [each.score for each in used],
            s=150,
            facecolors="none",
            edgecolors=GREEN,
            linewidths=2,
            label="in production",
            zorder=4,
        )
    for point in points:
        name = point.reference.rpartition("/")[2]
        axes.annotate(name, (point.annotations, point.score), (0, 9), textcoords="offset points", ha="center", size=8)
    axes.set_title(f"What labels bought: {model}", loc="left", fontweight="bold", fontsize=11)
    axes.set_xlabel("Annotations (one for each photo and annotator)")
    axes.set_ylabel(f"{metric.replace('_', ' ').replace('f1', 'F1')} on the test split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    if used or others:
        axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
