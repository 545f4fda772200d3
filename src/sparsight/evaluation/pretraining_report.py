"""The report of a pre-training: loss and probe over epochs, and the map of embeddings, as PNG, JSON and one page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.evaluation.embedding_map import plot_map, project
from sparsight.evaluation.page import write_page
from sparsight.evaluation.plots import BLUE, GREY, ORANGE
from sparsight.evaluation.stored import METRICS

LOSS_CURVE = "loss.png"
EMBEDDING_MAP = "embedding_map.png"
_NAMES = {
    "loss": "Loss",
    "spread": "Spread",
    "knn_accuracy": "kNN accuracy",
    "knn_untrained": "before training",
    "knn_majority": "most frequent class alone",
}


@dataclass(frozen=True, kw_only=True)
class LossMeaning:
    """What a method's loss is called, and what it tells, in sentences."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What a report is made of."""

    hyperparameters: Mapping[str, Any]
    """By name; `method` among them."""
    meaning: LossMeaning
    images: int
    """Number of images trained on."""
    history: Sequence[Mapping[str, float]]
    """For each epoch: epoch (from 1), loss, learning_rate, spread, and knn_accuracy where it was measured."""
    knn_untrained: float | None
    """What the probe found before training, where there was one."""
    knn_majority: float | None
    """What always naming the most frequent class would reach, where there was a probe."""
    embeddings: NDArray[np.float32]
    """N x D, of images to draw on the map."""
    labels: Sequence[str]
    """N; empty for none."""


def write_pretraining_report(folder: Path, result: Pretraining) -> dict[str, float]:
    """Write loss.png, embedding_map.png, metrics.json and index.html, which holds both pictures.

    Args:
        folder: is made.
        result: what the report tells.

    Returns:
        The final numbers by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plot_loss(folder / LOSS_CURVE, result)
    points, method = project(result.embeddings)
    plot_map(folder / EMBEDDING_MAP, points, result.labels, method)
    final = final_metrics(result)
    content = {"final": final, "hyperparameters": dict(result.hyperparameters), "history": list(result.history)}
    write_text(folder / METRICS, json.dumps(content, indent=2) + "\n")
    _write_page(folder, result, final)
    return final


def final_metrics(result: Pretraining) -> dict[str, float]:
    """The last epoch's loss and spread, and the last probe's accuracy beside what no knowledge would reach."""
    last = result.history[-1]
    final = {"loss": last["loss"], "spread": last["spread"]}
    probed = [record["knn_accuracy"] for record in result.history if "knn_accuracy" in record]
    if probed:
        final["knn_accuracy"] = probed[-1]
    beside = {"knn_untrained": result.knn_untrained, "knn_majority": result.knn_majority}
    return final | {name: value for name, value in beside.items() if value is not None}


def plot_loss(path: Path, result: Pretraining) -> None:
    """Draw the loss, and on a second axis the kNN probe's accuracy, over epochs."""
    figure = Figure((9, 4), layout="constrained")
    axes = figure.add_subplot()
    epochs = [record["epoch"] for record in result.history]
    marker = "o" if len(epochs) < 3 else None
    axes.plot(epochs, [record["loss"] for record in result.history], color=BLUE, marker=marker)
    axes.set_xlabel("Epoch")
    axes.set_ylabel(result.meaning.name, color=BLUE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    title = "Loss"
    if any("knn_accuracy" in record for record in result.history):
        title = "Loss, and accuracy of the kNN probe"
        _plot_probe(figure, result)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _plot_probe(figure: Figure, result: Pretraining) -> None:
    beside = figure.axes[0].twinx()
    probed = [record for record in result.history if "knn_accuracy" in record]
    epochs, values = [record["epoch"] for record in probed], [record["knn_accuracy"] for record in probed]
    beside.plot(epochs, values, color=ORANGE, marker="o", markersize=4)
    lines = (("before training", "--", result.knn_untrained), ("most frequent class alone", ":", result.knn_majority))
    for name, style, value in lines:
        if value is not None:
            beside.axhline(value, color=GREY, linestyle=style, linewidth=1, label=f"{name}: {value:.2f}")
    beside.set_ylabel("kNN accuracy", color=ORANGE)
    beside.set_ylim(0, 1.02)
    beside.spines["top"].set_visible(False)
    beside.legend(frameon=False, loc="lower right", fontsize=9)


def _write_page(folder: Path, result: Pretraining, final: Mapping[str, float]) -> None:
    epochs = len(result.history)
    write_page(
        folder,
        "pretraining.html",
        {"curve": folder / LOSS_CURVE, "map": folder / EMBEDDING_MAP},
        title="Pre-training",
        lead=f"{result.hyperparameters['method']} on {result.images:,} images without labels, {epochs} epochs.",
        figures=[(_NAMES[name], f"{value:.3f}") for name, value in final.items()],
        parameters=result.hyperparameters,
        probed="knn_accuracy" in final,
        epochs=epochs,
        meaning=result.meaning.text,
    )
