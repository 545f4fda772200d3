"""The page about predictions: photos by label, how sure and how familiar they are, and those worth a look."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.data.packed import PackedImages
from sparsight.evaluation.page import write_page
from sparsight.evaluation.plots import GREEN, ORANGE, Captioned, Histogram, plot_histograms, plot_photos, shorten

GALLERY, HISTOGRAMS, SUMMARY = "gallery.png", "histograms.png", "summary.txt"
NO_ANSWER = "no answer"
TILES = 12
_SCORES = np.linspace(0, 1, 21)
_DISTANCES = np.linspace(0, 3, 31)
"""In multiples of the limit; what is further off is counted with the last."""

Row = Mapping[str, Any]


class PredictionSummary:
    """What the page tells, gathered batch by batch: counts, and of single photos the few that it will show.

    Args:
        limit: the distance beyond which a photo is unfamiliar; None where the model can't tell.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.photos: Counter[str] = Counter()
        self.unfamiliar: Counter[str] = Counter()
        self.scores: Counter[str] = Counter()
        self._by_score = {flag: np.zeros(len(_SCORES) - 1, np.int64) for flag in (False, True)}
        self._by_distance = np.zeros(len(_DISTANCES) - 1, np.int64)
        self._least_sure: list[tuple[float, int, Row]] = []
        self._furthest: list[tuple[float, int, Row]] = []

    def add(self, positions: NDArray[np.int64], rows: Sequence[Row]) -> None:
        """Take in a batch: positions of the photos among the images, and what was predicted of each."""
        for position, row in zip(positions.tolist(), rows, strict=True):
            label = row["label"] or NO_ANSWER
            self.photos[label] += 1
            self.scores[label] += row["score"]
            self.unfamiliar[label] += bool(row["unfamiliar"])
            # Of equals the first photo stays: its negative position is the larger one.
            _keep(self._least_sure, (row["entropy"], -position, row))
            if row["distance"] is not None:
                _keep(self._furthest, (row["distance"], -position, row))
        self._count(rows)

    def _count(self, rows: Sequence[Row]) -> None:
        scores = np.array([row["score"] for row in rows])
        flags = np.array([bool(row["unfamiliar"]) for row in rows])
        for flag, counts in self._by_score.items():
            counts += np.histogram(scores[flags == flag], _SCORES)[0]
        if self.limit is not None:
            relative = np.array([row["distance"] for row in rows]) / max(self.limit, 1e-9)
            self._by_distance += np.histogram(np.minimum(relative, _DISTANCES[-1]), _DISTANCES)[0]

    @property
    def share_unfamiliar(self) -> float:
        """Part of the photos that are unfamiliar."""
        return self.unfamiliar.total() / max(1, self.photos.total())

    def histograms(self) -> list[Histogram]:
        """Scores, and where the model can tell distances."""
        names = ("familiar", "unfamiliar")
        by_kind = dict(zip(names, self._by_score.values(), strict=True))
        kinds = {"all": self._by_score[False]} if self.limit is None else by_kind
        found = [Histogram(title="How sure", unit="Score", edges=_SCORES, counts=kinds)]
        if self.limit is not None:
            near = _DISTANCES[:-1] < 1 - 1e-9
            counts = {"familiar": self._by_distance * near, "unfamiliar": self._by_distance * ~near}
            unit = "Distance, as a multiple of the limit (the last bar: 2.9 and more)"
            found.append(Histogram(title="How familiar", unit=unit, edges=_DISTANCES, counts=counts))
        return found

    def notes(self, familiar_share: float) -> list[str]:
        """What a reader should bear in mind, where that share of photos like the training ones counts as familiar."""
        if self.limit is None:
            return ["The model holds nothing of its training photos, so distances are empty. Train it anew for them."]
        expected = 1 - familiar_share
        if self.share_unfamiliar <= 2 * expected:
            return []
        return [
            f"{self.share_unfamiliar:.0%} of the photos are unfamiliar; of photos like those that it was trained on "
            f"{expected:.0%} would be. What the model says of unfamiliar ones, and how sure it is, means little."
        ]

    def gallery(self, images: PackedImages) -> dict[str, list[Captioned]]:
        """The photos that the model is least sure of, and those furthest from what it knows, with their pixels."""
        return {
            "Least sure": [_captioned(images, each, f"entropy {each[0]:.2f}") for each in _worst(self._least_sure)],
            "Least familiar": [_captioned(images, each, f"distance {each[0]:.3g}") for each in _worst(self._furthest)],
        }


def write_prediction_report(
    folder: Path, images: PackedImages, summary: PredictionSummary, *, lead: str, notes: Sequence[str]
) -> None:
    """Write index.html, its pictures, and summary.txt into an unfinished predictions artefact.

    Args:
        folder: the artefact's.
        images: of which the predictions are.
        summary: of all of them.
        lead: one sentence on what was predicted by what.
        notes: what a reader should bear in mind.
    """
    plot_histograms(folder / HISTOGRAMS, summary.histograms())
    plot_photos(folder / GALLERY, summary.gallery(images))
    write_page(
        folder,
        "predictions.html",
        {"histograms": folder / HISTOGRAMS, "gallery": folder / GALLERY},
        title="Predictions",
        lead=lead,
        figures=_figures(summary),
        notes=notes,
        labels=_labels(summary),
        knows=summary.limit is not None,
    )
    write_text(folder / SUMMARY, _told(summary))


def _keep(heap: list[tuple[float, int, Row]], entry: tuple[float, int, Row]) -> None:
    heapq.heappush(heap, entry) if len(heap) < TILES else heapq.heappushpop(heap, entry)


def _worst(heap: list[tuple[float, int, Row]]) -> list[tuple[float, int, Row]]:
    return sorted(heap, key=lambda entry: entry[:2], reverse=True)


def _captioned(images: PackedImages, entry: tuple[float, int, Row], line: str) -> Captioned:
    _, position, row = entry
    return Captioned(
        image=images.gather(np.array([-position]))[0],
        title=f"{shorten(row['label'] or NO_ANSWER, 20)} {row['score']:.0%}",
        line=line,
        colour=ORANGE if row["unfamiliar"] else GREEN,
    )


def _labels(summary: PredictionSummary) -> list[dict[str, Any]]:
    """Labels with their numbers, the most frequent first."""
    return [
        {
            "label": label,
            "photos": count,
            "share": count / summary.photos.total(),
            "score": summary.scores[label] / count,
            "unfamiliar": summary.unfamiliar[label],
        }
        for label, count in sorted(summary.photos.items(), key=lambda item: (-item[1], item[0]))
    ]


def _figures(summary: PredictionSummary) -> list[tuple[str, str]]:
    count = summary.photos.total()
    figures = [("Photos", f"{count:,}"), ("Mean score", f"{summary.scores.total() / count:.3f}")]
    if summary.photos[NO_ANSWER]:
        figures.append(("Without an answer", f"{summary.photos[NO_ANSWER]:,}"))
    unfamiliar = f"{summary.unfamiliar.total():,} ({summary.share_unfamiliar:.0%})"
    return [*figures, ("Unfamiliar", unfamiliar if summary.limit is not None else "not known")]


def _told(summary: PredictionSummary) -> str:
    shown = _labels(summary)[:20]
    width = max(len(row["label"]) for row in shown)
    lines = [f"{'label':<{width}} {'photos':>9} {'mean score':>11} {'unfamiliar':>11}"]
    for row in shown:
        unfamiliar = "-" if summary.limit is None else f"{row['unfamiliar']:,}"
        lines.append(f"{row['label']:<{width}} {row['photos']:>9,} {row['score']:>11.3f} {unfamiliar:>11}")
    left = len(summary.photos) - len(shown)
    return "\n".join([*lines, *([f"and {left:,} more labels"] if left else [])]) + "\n"
