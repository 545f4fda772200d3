"""Plots of label quality: agreement on each label and with each annotator, and who takes what for what."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsight.evaluation.agreement import RELIABLE, TENTATIVE
from sparsight.evaluation.annotators import NOTHING
from sparsight.evaluation.plots import BLUE, GREY, INK, ORANGE, PALE, save, shorten

MOST_LABELS, MOST_ANNOTATORS, MOST_CONFUSED = 30, 30, 20
"""More of them than this make a picture that nobody reads; the tables hold all."""
WIDTH = 36
"""Most characters of a name."""


def plot_labels(path: Path, labels: pd.DataFrame) -> None:
    """Draw alpha of each label with its interval, the worst on top.

    Args:
        path: the PNG file.
        labels: columns label, alpha, low, high, photos; unknown alphas are left out.
    """
    shown = labels.dropna(subset="alpha").sort_values("alpha", kind="stable")[:MOST_LABELS]
    names = _names(shown["label"], shown["photos"])
    axes = _rows(len(shown))
    places = np.arange(len(shown))
    axes.hlines(places, shown["low"], shown["high"], color=BLUE, linewidth=2.2, alpha=0.45)
    axes.plot(shown["alpha"], places, "o", color=BLUE, markersize=6)
    for bound in (TENTATIVE, RELIABLE):
        axes.axvline(bound, color=GREY, linestyle=":", linewidth=1.4)
    axes.set_yticks(places, names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    lowest = float(np.nanmin([*shown["alpha"], *shown["low"], 0.0]))
    axes.set_xlim(min(0.0, lowest) - 0.02, 1.02)
    axes.set_xlabel(
        "Krippendorff's alpha of the label against all others, and its 95 % interval\n"
        f"Dotted: tentative from {TENTATIVE:g}, reliable from {RELIABLE:g}"
    )
    _title(axes, f"Agreement on each label (photos with it){_cut(len(labels.dropna(subset='alpha')), MOST_LABELS)}")
    _save(axes, path)


def plot_annotators(path: Path, annotators: pd.DataFrame) -> None:
    """Draw how often each annotator says what most others say, and the mean kappa with them, the worst on top.

    Args:
        path: the PNG file.
        annotators: columns annotator, compared, agreement, kappa.
    """
    known = annotators.dropna(subset="agreement")
    shown = known.sort_values("agreement", kind="stable")[:MOST_ANNOTATORS]
    axes = _rows(len(shown))
    places = np.arange(len(shown))
    most, kappa = "how often they say what most others say", "mean of Cohen's kappa with each other one"
    axes.plot(shown["agreement"], places, "o", color=BLUE, markersize=7, label=most)
    axes.plot(shown["kappa"], places, "D", color=ORANGE, markersize=6, label=kappa)
    axes.set_yticks(places, _names(shown["annotator"], shown["compared"]))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(min(0.0, float(np.nanmin([*shown["kappa"], 0.0]))) - 0.02, 1.02)
    axes.set_xlabel("Agreement")
    axes.figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside lower center")
    _title(axes, f"Each annotator (photos compared){_cut(len(known), MOST_ANNOTATORS)}")
    _save(axes, path)


def plot_confusion_between(path: Path, confusion: pd.DataFrame) -> None:
    """Draw what other annotators say where one says a label, in percent of the row.

    Args:
        path: the PNG file.
        confusion: columns label, other, count; of many labels those are drawn that are confused most.
    """
    labels = _most_confused(confusion)
    table = confusion.pivot_table(index="label", columns="other", values="count", aggfunc="sum", fill_value=0.0)
    percent = 100 * table.div(table.sum(axis=1), axis=0)
    others = [*labels, *([NOTHING] if NOTHING in percent.columns else [])]
    shade = percent.reindex(index=labels, columns=others, fill_value=0.0).to_numpy(float)
    side = 0.75 + max(2.8, (0.62 if len(others) <= 12 else 0.42) * len(others))
    margin = 0.07 * max(len(shorten(label, WIDTH)) for label in labels) + 0.4
    axes = Figure((side + margin + 0.6, side + 0.8 * margin), layout="constrained").add_subplot()
    image = axes.imshow(shade, cmap="Blues", vmin=0, vmax=100)
    size = 9 if len(others) <= 12 else 7
    for row, column in np.argwhere(shade >= 0.5):
        colour = "white" if shade[row, column] > 55 else INK
        axes.text(column, row, f"{shade[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=size)
    names = [shorten(label, WIDTH) if label else "(nothing else)" for label in others]
    axes.set_xticks(range(len(others)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), names[: len(labels)])
    axes.tick_params(length=0, labelsize=size)
    axes.set(xlabel="Another annotator of the same photo says", ylabel="One annotator says")
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("Percent of the row")
    bar.outline.set_visible(False)
    _title(axes, f"Confusion between annotators{_cut(confusion['label'].nunique(), MOST_CONFUSED)}")
    _save(axes, path)


def _most_confused(confusion: pd.DataFrame) -> list[str]:
    """Labels in alphabetical order; of many, those most often set against another one."""
    labels = sorted(confusion["label"].unique())
    if len(labels) <= MOST_CONFUSED:
        return labels
    apart = confusion[confusion["label"] != confusion["other"]].groupby("label")["count"].sum()
    worst = sorted(labels, key=lambda label: (-apart.get(label, 0.0), label))
    return sorted(worst[:MOST_CONFUSED])


def _names(names: Iterable[str], counts: Iterable[int]) -> list[str]:
    return [f"{shorten(name, WIDTH)} ({count:,})" for name, count in zip(names, counts, strict=True)]


def _cut(count: int, most: int) -> str:
    return f", the worst {most} of {count}" if count > most else ""


def _rows(count: int) -> Axes:
    axes = Figure((8.4, 1.5 + 0.32 * max(count, 2)), layout="constrained").add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    return axes


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)


def _save(axes: Axes, path: Path) -> None:
    figure = axes.figure
    assert isinstance(figure, Figure)  # noqa: S101 -- for the type checker
    save(figure, path)
