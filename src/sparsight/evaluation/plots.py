"""Plots of a classifier's evaluation, as PNG files that are the same for the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sparsight.data.labels import is_sound

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0b62a4", "#d55e00", "#00795a", "#8a4a9e", "#667085"
"""Told apart also with red-green blindness; 4.5 : 1 on white, so that they serve as text colours too."""
INK, PALE = "#1d2433", "#d7dce4"
DPI = 130
NO_ANSWER = "no answer"
"""What an empty predicted label is shown as."""
# Labels are anybody's text: one with two dollar signs is no formula, and would end the drawing as a wrong one.
matplotlib.rcParams["text.parse_math"] = False


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot over epochs: its name and one value per epoch."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One photo of a gallery: uint8 H x W x 3, its true and its predicted label, and the prediction's score, 0 to 1."""

    image: NDArray[np.uint8]
    truth: str
    predicted: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One photo, uint8 H x W x 3, under a title of some colour and a line below that."""

    image: NDArray[np.uint8]
    title: str
    line: str
    colour: str


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of photos between K + 1 edges: of at most two kinds, on top of each other, K counts by the kind's name."""

    title: str
    unit: str
    edges: NDArray[np.floating]
    counts: Mapping[str, NDArray[np.integer]]


def shorten(text: str, length: int = 24) -> str:
    """Cut a long label in the middle, so that both ends of a path stay readable; say so where there is none."""
    text = text or NO_ANSWER
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def plot_confusion(path: Path, confusion: NDArray[np.integer], classes: Sequence[str]) -> None:
    """Draw a confusion matrix twice: as counts, and in percent of each true class.

    Args:
        path: the PNG file.
        confusion: int, C x C; row: true class, column: predicted class.
        classes: C labels.
    """
    count = len(classes)
    beside = count <= 10
    side = 0.75 + max(2.8, (0.62 if count <= 12 else 0.4) * count)
    margin = 0.075 * max(len(shorten(label)) for label in classes) + 0.4
    one = (side + margin, side + 0.8 * margin)
    figure = Figure((2 * one[0], one[1]) if beside else (one[0], 2 * one[1]), layout="constrained")
    axes = figure.subplots(*((1, 2) if beside else (2, 1)))
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    percent = 100 * confusion / totals
    _matrix(axes[0], percent, confusion, classes, "Number of images")
    _matrix(axes[1], percent, np.round(percent).astype(int), classes, "Percent of the true class")
    save(figure, path)


def _matrix(
    axes: Axes, shade: NDArray[np.floating], text: NDArray[np.integer], classes: Sequence[str], title: str
) -> None:
    count = len(classes)
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=100)
    size = 10 if count <= 12 else 7
    for row in range(count):
        for column in range(count):
            colour = "white" if shade[row, column] > 55 else INK if text[row, column] else "#98a2b3"
            if count > 12 and not text[row, column]:
                continue
            axes.text(column, row, f"{text[row, column]}", ha="center", va="center", color=colour, fontsize=size)
    names = [shorten(label) for label in classes]
    axes.set_xticks(range(count), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0, labelsize=size)
    axes.set(xlabel="Predicted", ylabel="True")
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.spines[:].set_visible(False)


def plot_curves(path: Path, losses: Sequence[Curve], scores: Sequence[Curve], best_epoch: int) -> None:
    """Draw training curves: losses on the left, scores (0 to 1) on the right, the kept epoch marked (from 1)."""
    figure = Figure((10, 3.8), layout="constrained")
    for axes, curves, title in zip(figure.subplots(1, 2), (losses, scores), ("Loss", "Score"), strict=True):
        for curve, colour in zip(curves, (BLUE, ORANGE, GREEN, PURPLE), strict=False):
            epochs = range(1, len(curve.values) + 1)
            axes.plot(epochs, curve.values, color=colour, label=curve.name, marker="o" if len(epochs) < 3 else None)
        axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"kept: epoch {best_epoch}")
        dress(axes, title)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best", frameon=False)  # where it isn't named, a legend that takes a second to place warns
        if title == "Score":
            axes.set_ylim(0, 1.02)
    save(figure, path)


def plot_coverage(path: Path, curve: pd.DataFrame, threshold: float | None) -> None:
    """Draw for each level how many images are answered against how often rightly, the threshold in force marked.

    Args:
        path: the PNG file.
        curve: threshold, level, coverage and accuracy, as `ranking.coverage` gives them.
        threshold: the one in force; None where there is none.
    """
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    for number, (level, rows) in enumerate(curve.dropna().groupby("level")):
        colour = (BLUE, ORANGE, GREEN, PURPLE)[number % 4]
        axes.plot(100 * rows["coverage"], 100 * rows["accuracy"], color=colour, label=f"level {level}")
        if threshold is not None:
            chosen = rows[rows["threshold"] >= threshold - 1e-9][:1]
            axes.plot(100 * chosen["coverage"], 100 * chosen["accuracy"], "o", color=colour)
    dress(axes, "How many are answered, and how often rightly")
    axes.set_xlabel("Images answered at this level, %")
    axes.set_ylabel("Right among them, %")
    axes.set_xlim(0, 102)
    axes.set_ylim(top=101)
    axes.legend(loc="best", frameon=False, title=None if threshold is None else f"dot: threshold {threshold:g}")
    save(figure, path)


def plot_gallery(path: Path, wrong: Sequence[Tile], right: Sequence[Tile], columns: int = 6) -> None:
    """Draw photos with what they are and what they were taken for: wrong predictions first, then right ones."""
    plot_photos(path, {"Wrong": list(map(_captioned, wrong)), "Right": list(map(_captioned, right))}, columns)


def _captioned(tile: Tile) -> Captioned:
    is_right = is_sound(tile.predicted, tile.truth)
    verdict = f"{'✓' if is_right else '✗'} {shorten(tile.predicted, 20)} {tile.score:.0%}"
    truth = "" if tile.truth == tile.predicted else f"is {shorten(tile.truth, 22)}"
    return Captioned(image=tile.image, title=verdict, line=truth, colour=GREEN if is_right else ORANGE)


def plot_photos(path: Path, sections: Mapping[str, Sequence[Captioned]], columns: int = 6) -> None:
    """Draw photos in sections, each under its name; sections without photos are left out."""
    shown = [(title, photos) for title, photos in sections.items() if photos]
    rows = [-(-len(photos) // columns) for _, photos in shown]
    figure = Figure((columns * 1.75, sum(rows) * 2.15 + 0.4 * len(rows)), layout="constrained")
    parts = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=[count + 0.2 for count in rows]).ravel()
    for part, (title, photos), count in zip(parts, shown, rows, strict=True):
        part.suptitle(f"{title} ({len(photos)} shown)", x=0.01, ha="left", fontweight="bold", fontsize=11)
        grid = part.subplots(count, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, photo in zip(grid, photos, strict=False):
            _photo(axes, photo)
    save(figure, path)


def _photo(axes: Axes, photo: Captioned) -> None:
    axes.imshow(photo.image, interpolation="nearest" if photo.image.shape[0] < 100 else "antialiased")
    axes.set_title(photo.title, fontsize=8, color=photo.colour, fontweight="bold", pad=14)
    axes.text(0.5, 1.02, photo.line, transform=axes.transAxes, ha="center", va="bottom", fontsize=8, color=INK)


def plot_histograms(path: Path, histograms: Sequence[Histogram]) -> None:
    """Draw histograms of photos side by side."""
    figure = Figure((5 * len(histograms), 3.4), layout="constrained")
    for axes, histogram in zip(figure.subplots(1, len(histograms), squeeze=False)[0], histograms, strict=True):
        bottom = np.zeros(len(histogram.edges) - 1)
        for (name, heights), colour in zip(histogram.counts.items(), (BLUE, ORANGE), strict=False):
            widths = np.diff(histogram.edges)
            axes.bar(histogram.edges[:-1], heights, widths, bottom, align="edge", color=colour, label=name, ec="white")
            bottom += heights
        dress(axes, histogram.title)
        axes.set(xlabel=histogram.unit, ylabel="Photos")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(histogram.counts) > 1:
            axes.legend(loc="best", frameon=False)
    save(figure, path)


def plot_comparison(
    path: Path,
    scores: Mapping[str, Mapping[str, float]],
    per_class: Mapping[str, Mapping[str, float]],
) -> None:
    """Draw models beside each other: overall scores on top, the F1 of each class below.

    Args:
        path: the PNG file.
        scores: model -> name of a score -> value, 0 to 1.
        per_class: model -> class -> F1.
    """
    classes = list(next(iter(per_class.values())))
    width = max(7.5, min(18, 0.28 * len(per_class) * len(classes) + 2))
    figure = Figure((width, 7.2), layout="constrained")
    top, below = figure.subplots(2, 1)
    _bars(top, scores, "On the same test images")
    _bars(below, per_class, "F1 by class")
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper left", ncols=len(scores), frameon=False)
    save(figure, path)


def _bars(axes: Axes, values: Mapping[str, Mapping[str, float]], title: str) -> None:
    groups = list(next(iter(values.values())))
    width = 0.8 / len(values)
    crowded = len(values) * len(groups) > 40
    colours = (BLUE, ORANGE, GREEN, PURPLE)
    for number, ((model, heights), colour) in enumerate(zip(values.items(), colours, strict=False)):
        places = np.arange(len(groups)) + (number - (len(values) - 1) / 2) * width
        bars = axes.bar(places, [heights[group] for group in groups], width * 0.92, color=colour, label=model)
        if not crowded:
            axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    dress(axes, title)
    turn = max(len(shorten(group)) for group in groups) * len(groups) > 90
    names = [shorten(group) for group in groups]
    axes.set_xticks(range(len(groups)), names, rotation=35 if turn else 0, ha="right" if turn else "center")
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 1.08)


def dress(axes: Axes, title: str) -> None:
    """Give axes a title on the left, quiet spines and horizontal lines behind what is drawn."""
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG file, cut to what is drawn, that is the same for the same figure."""
    figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
