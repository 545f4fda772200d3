"""The page about chosen photos: a map of all, a gallery of those chosen, what they cover, how balanced classes are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.data.packed import PackedImages
from sparsight.evaluation.page import write_page
from sparsight.evaluation.selection_map import pixels_of, selection_map
from sparsight.evaluation.selection_plots import plot_balance, plot_coverage
from sparsight.evaluation.thumbnails import thumbnail

COVERAGE, BALANCE, SUMMARY, CURVE = "coverage.png", "balance.png", "summary.txt", "coverage.csv"
GALLERY_PHOTOS = 300
_SIDE = 112
_PANELS = (("Distance of the farthest photo", "radius"), ("Mean distance", "mean"))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Photos that were chosen, and what there was to choose from.

    Attributes:
        photos: a row for each photo: id; kind, one of candidate, chosen, outlier, labelled; rank, from 1 for those
            chosen, else 0; distance; label, its own or the one that a classifier gives it, or empty.
        embeddings_of: gives the embeddings of some photos, by their places in the table.
        coverage: a row for each of several numbers of choices, the last being all: size, radius, mean, random_radius,
            random_mean.
        strategy: by which they were chosen.
        labels_are: `own` or `predicted`.
        parameters: how they were chosen.
        notes: what a reader should know, one sentence each.
    """

    photos: pd.DataFrame
    embeddings_of: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    coverage: pd.DataFrame
    strategy: str
    labels_are: str
    parameters: Mapping[str, Any]
    notes: Sequence[str]

    def count(self, kind: str) -> int:
        """Tell how many photos of a kind there are."""
        return int((self.photos["kind"] == kind).sum())

    @property
    def chosen(self) -> pd.DataFrame:
        """The chosen photos, by rank."""
        return self.photos[self.photos["rank"] > 0].sort_values("rank")


def write_selection_report(folder: Path, choice: Choice, images: PackedImages | None, seed: int) -> None:
    """Write index.html, its pictures, coverage.csv and summary.txt into an unfinished selection artefact.

    Args:
        folder: the artefact's.
        choice: what was chosen.
        images: where photos' pixels are; without them the page has no thumbnails.
        seed: of the map.
    """
    choice.coverage.to_csv(folder / CURVE, index=False, lineterminator="\n", float_format="%.6g")
    pictures = {"coverage": folder / COVERAGE}
    plot_coverage(
        folder / COVERAGE,
        choice.coverage["size"].tolist(),
        {title: choice.coverage[name].tolist() for title, name in _PANELS},
        {title: choice.coverage[f"random_{name}"].tolist() for title, name in _PANELS},
    )
    balance = class_balance(choice)
    if not balance.empty:
        pictures["balance"] = folder / BALANCE
        names = balance.index.astype(str)
        plot_balance(
            folder / BALANCE,
            dict(zip(names, balance["chosen_share"], strict=True)),
            dict(zip(names, balance["share"], strict=True)),
        )
    write_page(
        folder,
        "selection.html",
        pictures,
        title="Photos to label next",
        lead=f"{choice.count('chosen'):,} photos, chosen by {choice.strategy}.",
        figures=_figures(choice),
        notes=choice.notes,
        map=selection_map(choice.photos, choice.embeddings_of, images, seed),
        gallery=_gallery(choice, images),
        chosen=choice.count("chosen"),
        balance=balance.reset_index().to_dict("records"),
        labels_are=choice.labels_are,
        parameters=choice.parameters,
    )
    write_text(folder / SUMMARY, summary(choice))


def class_balance(choice: Choice) -> pd.DataFrame:
    """Count classes among the chosen photos and among all there were to choose from.

    Returns:
        By label, the most frequent first: chosen, chosen_share, photos, share; empty where no photo has a label.
    """
    photos = choice.photos[choice.photos["kind"] != "labelled"]
    if not (photos["label"] != "").any():
        return pd.DataFrame()
    named = photos.assign(label=photos["label"].where(photos["label"] != "", "no label"))
    table = named.groupby("label").agg(chosen=("rank", lambda ranks: int((ranks > 0).sum())), photos=("id", "size"))
    table["chosen_share"] = table["chosen"] / max(1, table["chosen"].sum())
    table["share"] = table["photos"] / table["photos"].sum()
    return table.sort_values(["photos"], ascending=False, kind="stable")


def summary(choice: Choice) -> str:
    """Tell in a few lines what was chosen, with random beside it."""
    last = choice.coverage.iloc[-1]
    lines = [f"{choice.count('chosen'):,} photos, chosen by {choice.strategy}"]
    lines += [f"{'':<34}{'chosen':>10}{'at random':>12}"]
    lines += [f"{title:<34}{last[name]:>10.4f}{last[f'random_{name}']:>12.4f}" for title, name in _PANELS]
    balance = class_balance(choice)
    if not balance.empty:
        met = int((balance["chosen"] > 0).sum())
        lines.append(f"{met} of {len(balance)} classes are among them, by {choice.labels_are} labels")
    return "\n".join([*lines, *choice.notes]) + "\n"


def _figures(choice: Choice) -> list[tuple[str, str]]:
    last = choice.coverage.iloc[-1]
    return [
        ("Chosen", f"{choice.count('chosen'):,}"),
        ("To choose from", f"{choice.count('candidate') + choice.count('chosen'):,}"),
        ("Labelled before", f"{choice.count('labelled'):,}"),
        (f"Farthest photo; at random {last['random_radius']:.3f}", f"{last['radius']:.3f}"),
        (f"Mean distance; at random {last['random_mean']:.3f}", f"{last['mean']:.3f}"),
    ]


def _gallery(choice: Choice, images: PackedImages | None) -> list[dict[str, Any]]:
    shown = choice.chosen.head(GALLERY_PHOTOS)
    pixels = None if images is None else pixels_of(images, shown["id"].tolist())
    return [
        {
            "rank": row["rank"],
            "id": row["id"],
            "label": row["label"],
            "distance": None if np.isinf(row["distance"]) else row["distance"],
            "image": None if pixels is None else thumbnail(pixels[number], _SIDE),
        }
        for number, row in enumerate(shown.to_dict("records"))
    ]
