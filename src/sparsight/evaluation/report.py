"""The report of a classifier: metrics.json, predictions.csv, plots, and one page that holds it all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.data.labels import is_sound
from sparsight.evaluation.metrics import PREDICTIONS, Metrics, Predictions, evaluate
from sparsight.evaluation.page import write_page
from sparsight.evaluation.plots import Curve, Tile, plot_confusion, plot_curves, plot_gallery
from sparsight.evaluation.stored import METRICS
from sparsight.evaluation.taxonomy_report import COVERAGE, TaxonomyReport, tree_rows, write_taxonomy_report

CONFUSION, CURVES, GALLERY = "confusion_matrix.png", "training_curves.png", "gallery.png"
GALLERY_TILES = 12


@dataclass(frozen=True, kw_only=True)
class ClassifierReport:
    """What a report is made of.

    Attributes:
        classes: every class the model knows.
        predictions: of the test images.
        pixels: gives the pixels, uint8 N x H x W x 3, of some test images by their places in `predictions`.
        epochs: for each epoch train_loss, valid_loss, valid_accuracy, valid_macro_f1.
        best_epoch: the one kept, from 1.
        lead: one sentence on what was trained on what.
        notes: what a reader should bear in mind.
        parameters: what made the model, by name.
        taxonomy: what to tell of the labels' taxonomy, where they make one.
    """

    classes: Sequence[str]
    predictions: Predictions
    pixels: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    epochs: Sequence[Mapping[str, float]]
    best_epoch: int
    lead: str
    notes: Sequence[str]
    parameters: Mapping[str, Any]
    taxonomy: TaxonomyReport | None = None


def write_classifier_report(folder: Path, report: ClassifierReport) -> Metrics:
    """Write the report's files into a new folder and return the test metrics."""
    folder.mkdir(parents=True)
    reject = report.taxonomy.reject if report.taxonomy else ()
    metrics = evaluate(report.predictions, report.classes, reject=reject)
    images = {"confusion": folder / CONFUSION, "curves": folder / CURVES, "gallery": folder / GALLERY}
    if report.taxonomy and metrics.hierarchy:
        whole = write_taxonomy_report(folder, report.taxonomy, metrics.hierarchy, report.predictions.truth)
        metrics = metrics.model_copy(update={"hierarchy": whole})
        images["coverage"] = folder / COVERAGE
    write_text(folder / METRICS, metrics.model_dump_json(indent=2) + "\n")
    report.predictions.to_frame().to_csv(folder / PREDICTIONS, index=False, float_format="%.6f")
    plot_confusion(folder / CONFUSION, np.array(metrics.confusion), list(metrics.classes))
    plot_curves(folder / CURVES, *_curves(report.epochs), report.best_epoch)
    plot_gallery(folder / GALLERY, *_tiles(report))
    write_page(
        folder,
        "classifier.html",
        images,
        title="Classifier",
        lead=report.lead,
        figures=_figures(metrics),
        notes=report.notes,
        metrics=metrics,
        taxonomy=report.taxonomy,
        tree=tree_rows(metrics.hierarchy, reject) if metrics.hierarchy else (),
        epochs=len(report.epochs),
        best_epoch=report.best_epoch,
        parameters=report.parameters,
    )
    return metrics


def _figures(metrics: Metrics) -> list[tuple[str, str]]:
    figures = [
        ("Macro F1", f"{metrics.macro_f1:.3f}"),
        ("Accuracy", f"{metrics.accuracy:.3f}"),
        ("Weighted F1", f"{metrics.weighted_f1:.3f}"),
        ("Calibration error", f"{metrics.calibration_error:.3f}"),
        ("Test images", f"{metrics.images:,}"),
    ]
    if metrics.hierarchy:
        figures.insert(0, ("Hierarchical F1", f"{metrics.hierarchy.f1:.3f}"))
    return figures


def _curves(epochs: Sequence[Mapping[str, float]]) -> tuple[list[Curve], list[Curve]]:
    def curve(name: str, key: str) -> Curve:
        return Curve(name=name, values=[epoch[key] for epoch in epochs])

    losses = [curve("training", "train_loss"), curve("validation", "valid_loss")]
    scores = [curve("macro F1, validation", "valid_macro_f1"), curve("accuracy, validation", "valid_accuracy")]
    return losses, scores


def _tiles(report: ClassifierReport) -> tuple[list[Tile], list[Tile]]:
    """Choose the wrong predictions that the model was surest of, and the right ones that it was least sure of."""
    told = report.predictions
    right = np.array([is_sound(*pair) for pair in zip(told.predicted, told.truth, strict=True)])
    order = np.argsort(told.scores, kind="stable")
    chosen = order[::-1][~right[order[::-1]]][:GALLERY_TILES], order[right[order]][:GALLERY_TILES]
    pictures = report.pixels(np.concatenate(chosen))
    tiles = [
        Tile(image=pixels, truth=told.truth[place], predicted=told.predicted[place], score=float(told.scores[place]))
        for place, pixels in zip(np.concatenate(chosen), pictures, strict=True)
    ]
    return tiles[: len(chosen[0])], tiles[len(chosen[0]) :]
