"""The report on label quality: quality.json, tables, plots, a summary, and one page that holds it all."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.evaluation.disagreements import DISAGREEMENTS
from sparsight.evaluation.label_errors import SUSPECTED
from sparsight.evaluation.label_quality import (
    QUALITY,
    AlphaAt,
    MeasuredLabels,
    Quality,
    Suspects,
    level_name,
    summary,
    verdict,
)
from sparsight.evaluation.page import embed_pixels, write_page
from sparsight.evaluation.quality_plots import plot_annotators, plot_confusion_between, plot_labels
from sparsight.evaluation.set_distances import DISTANCES

SUMMARY = "summary.txt"
POOR = 0.7
"""Below this agreement of heads and labels the heads say more about themselves than about the labels."""
SHOWN = 24
"""Photos of a kind that the page shows; the tables list all."""
Fetch = Callable[[Sequence[str]], Sequence[NDArray[np.uint8] | None]]


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """What a report is made of.

    Attributes:
        measured: what annotations tell.
        suspected: as `list_suspects` gives them, the most suspect first.
        suspects: how they were found; None where no label could be examined.
        fetch: gives pictures of photos by their addresses, None for one that can't be had.
    """

    measured: MeasuredLabels
    suspected: pd.DataFrame
    suspects: Suspects | None
    fetch: Fetch

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of what."""
        photos = self.measured.quality.photos
        return {"photos": photos, "disagreements": len(self.measured.disagreements), "suspected": len(self.suspected)}

    @property
    def notes(self) -> list[str]:
        """What a reader should bear in mind."""
        return [*self.measured.notes, *_suspect_notes(self.suspects)]


def write_quality_report(folder: Path, report: QualityReport) -> Quality:
    """Write the report's files into a folder that is there, and return the numbers over all."""
    measured = report.measured
    quality = measured.quality.model_copy(update={"suspects": report.suspects})
    write_text(folder / QUALITY, quality.model_dump_json(indent=2) + "\n")
    tables = {f"{name}.csv": table for name, table in measured.tables.items()}
    for name, table in {**tables, DISAGREEMENTS: measured.disagreements, SUSPECTED: report.suspected}.items():
        table.to_csv(folder / name, index=False, float_format="%.6f", lineterminator="\n")
    write_text(folder / SUMMARY, "\n".join(_lines(report)) + "\n")
    _write_page(folder, report, quality, _plots(folder, measured))
    return quality


def _lines(report: QualityReport) -> list[str]:
    """The summary, with the notes last."""
    found = report.suspects
    errors = (
        "No label was examined for errors"
        if found is None
        else (
            f"{found.suspected:,} of {found.examined:,} labels suspected; "
            f"heads that hadn't seen the photo agree with {found.accuracy:.1%} of the labels"
        )
    )
    return [*summary(report.measured), errors, *(f"note: {note}" for note in report.notes)]


def _suspect_notes(suspects: Suspects | None) -> list[str]:
    if suspects is None:
        return ["Fewer than two labels have as many photos as there are folds, so no label was examined for errors."]
    notes = [
        f"{photos:,} photos {reason} were not examined for errors." for reason, photos in suspects.left_out.items()
    ]
    if suspects.accuracy < POOR:
        notes.append(
            f"The heads agree with {suspects.accuracy:.0%} of the labels only, so many suspects will be the heads' own "
            "errors: take embeddings of a better model."
        )
    return notes


def _plots(folder: Path, measured: MeasuredLabels) -> dict[str, Path]:
    """Draw what there is to be drawn."""
    labels, annotators, confusion = (measured.at_level(name) for name in ("labels", "annotators", "confusion"))
    drawn = {}
    if labels["alpha"].notna().any():
        drawn["labels"] = folder / "agreement_by_label.png"
        plot_labels(drawn["labels"], labels)
    if annotators["agreement"].notna().any():
        drawn["annotators"] = folder / "agreement_by_annotator.png"
        plot_annotators(drawn["annotators"], annotators)
    if len(confusion):
        drawn["confusion"] = folder / "confusion_between_annotators.png"
        plot_confusion_between(drawn["confusion"], confusion)
    return drawn


def _write_page(folder: Path, report: QualityReport, quality: Quality, images: dict[str, Path]) -> None:
    measured = report.measured
    suspected, differing = report.suspected[:SHOWN], measured.disagreements[:SHOWN]
    pictures = report.fetch([*suspected["uri"], *differing["uri"]])
    embedded = [None if pixels is None else embed_pixels(pixels) for pixels in pictures]
    write_page(
        folder,
        "label_quality.html",
        images,
        title="Label quality",
        lead=f"{quality.photos:,} annotated photos, {quality.annotators} annotators.",
        figures=_figures(quality),
        notes=report.notes,
        quality=quality,
        levels=_levels(quality),
        annotators=_rows(measured.at_level("annotators")),
        pairs=_rows(measured.at_level("pairs")),
        suspected=_cards(suspected, embedded[: len(suspected)]),
        differing=_cards(differing, embedded[len(suspected) :]),
    )


def _figures(quality: Quality) -> list[tuple[str, str]]:
    alpha = quality.alpha()
    figures = [
        (f"Alpha, {level_name(alpha.level)}", "unknown" if alpha.alpha is None else f"{alpha.alpha:.3f}"),
        ("Photos compared", f"{alpha.photos:,}"),
        ("Photos with different labels", f"{quality.disagreements:,}"),
        ("of them without a label", f"{quality.unsettled:,}"),
    ]
    suspects = quality.suspects
    return [*figures, ("Labels suspected", "unknown" if suspects is None else f"{suspects.suspected:,}")]


def _levels(quality: Quality) -> list[tuple[str, AlphaAt, str, float | None, float | None]]:
    rows = []
    for level in quality.levels:
        alpha, by_jaccard, by_masi = (quality.alpha(level, distance) for distance in DISTANCES)
        rows.append((level_name(level), alpha, verdict(alpha.alpha), by_jaccard.alpha, by_masi.alpha))
    return rows


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]


def _cards(photos: pd.DataFrame, pictures: Sequence[str | None]) -> list[dict[str, Any]]:
    return [
        {**row, "picture": picture, "said": _said(row["said"])}
        for row, picture in zip(_rows(photos), pictures, strict=True)
    ]


def _said(text: str) -> Mapping[str, str]:
    return {annotator: ", ".join(labels) for annotator, labels in json.loads(text).items()}
