"""A picture of how many photos of each label a dataset has in each split."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_COLOURS = {"train": "#0072b2", "valid": "#e69f00", "test": "#009e73"}  # told apart by the colour-blind too
_MOST = 40


def draw_distribution(distribution: pd.DataFrame, photos: int, path: Path) -> None:
    """Draw one bar for each label and split, with its count beside it, as a PNG that is the same for the same counts.

    Args:
        distribution: split, label, count (photos) and rows (with repetitions); a photo counts under each of its labels.
        photos: how many there are in all.
        path: the file to write.
    """
    totals = distribution.groupby("label")["count"].sum().sort_values(ascending=False, kind="stable")
    labels = list(totals.index[:_MOST])
    splits = [split for split in _COLOURS if split in set(distribution["split"])]
    figure = Figure(figsize=(9, 1.8 + 0.24 * len(labels) * max(len(splits), 1)), layout="constrained")
    axes = figure.subplots()
    for place, split in enumerate(splits):
        _bars(axes, distribution, labels, split, place, len(splits))
    axes.set_yticks(range(len(labels)), [label or "(unlabelled)" for label in labels], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("photos")
    axes.set_ylabel("label")
    axes.set_title(_title(photos, len(totals)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="split", loc="best")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _bars(axes: Axes, distribution: pd.DataFrame, labels: list[str], split: str, place: int, splits: int) -> None:
    height = 0.8 / splits
    here = distribution[(distribution["split"] == split) & distribution["label"].isin(labels)]
    positions = [labels.index(label) - 0.4 + height * (place + 0.5) for label in here["label"]]
    bars = axes.barh(positions, here["count"].to_list(), height, color=_COLOURS[split], label=split)
    written = [_count(photos, rows) for photos, rows in zip(here["count"], here["rows"], strict=True)]
    axes.bar_label(bars, written, padding=3, fontsize=8)


def _count(photos: int, rows: int) -> str:
    return f"{photos:,}" if rows == photos else f"{photos:,} (repeated to {rows:,})"


def _title(photos: int, labels: int) -> str:
    shown = f", the {_MOST} largest of {labels:,} labels" if labels > _MOST else ""
    return f"Photos for each label and split ({photos:,} in all{shown})"
