"""What annotations say about their own quality, at every level of the taxonomy: tables, counts, and sentences."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from sparsight.errors import SparsightError
from sparsight.evaluation.agreement import RELIABLE, TENTATIVE, measure_agreement
from sparsight.evaluation.annotators import (
    confusion_by_label,
    confusion_by_pair,
    measure_annotators,
    measure_pairs,
)
from sparsight.evaluation.disagreements import LabelRule, list_disagreements
from sparsight.evaluation.stored import Stored
from sparsight.evaluation.votes import PHOTO, Votes, levels_of

QUALITY = "quality.json"


class AlphaAt(Stored):
    """Krippendorff's alpha at one level by one distance, with its 95 % interval; None where nothing can be said."""

    level: int = Field(description="1 is the first level; 0 is the whole path")
    distance: str = Field(description="nominal, jaccard or masi")
    alpha: float | None
    low: float | None
    high: float | None
    photos: int = Field(description="with two annotators or more")
    votes: int = Field(description="of these photos")


class Suspects(Stored):
    """What cross-validated heads found."""

    examined: int = Field(description="photos with one label, of a class that has enough of them")
    accuracy: float = Field(description="how often the heads say what the label says")
    suspected: int
    left_out: dict[str, int] = Field(description="photos not examined, by reason")


class Quality(Stored):
    """Content of quality.json."""

    level: int = Field(description="that labels are settled at, as in the tables; 0 is the whole path")
    photos: int = Field(description="annotated ones")
    reviewed: int = Field(description="of these, those with a review")
    measured: int = Field(description="photos that agreement is measured on, whatever the number of their annotators")
    annotators: int
    agreement: list[AlphaAt]
    disagreements: int = Field(description="photos on which annotators differ, reviewed ones included")
    unsettled: int = Field(description="of these, those without a label")
    suspects: Suspects | None = Field(default=None, description="None where no label could be examined")

    @property
    def levels(self) -> list[int]:
        """The levels that agreement is measured at, from the first one down; the whole path, 0, comes last."""
        return list(dict.fromkeys(each.level for each in self.agreement))

    def alpha(self, level: int | None = None, distance: str = "nominal") -> AlphaAt:
        """Agreement at a level, by default the one that labels are settled at."""
        wanted = self.level if level is None else level
        return next(each for each in self.agreement if (each.level, each.distance) == (wanted, distance))

    def overall(self) -> dict[str, float]:
        """The numbers that are worth following over time, by name."""
        known = {"disagreements": float(self.disagreements), "unsettled": float(self.unsettled)}
        if (alpha := self.alpha().alpha) is not None:
            known["alpha"] = alpha
        if self.suspects is not None:
            known |= {"suspected": float(self.suspects.suspected), "label_accuracy": self.suspects.accuracy}
        return known


def read_quality(path: Path) -> Quality:
    """Read a quality.json.

    Raises:
        SparsightError: it isn't there, or isn't one.
    """
    return Quality.read(path, "label quality")


@dataclass(frozen=True, kw_only=True)
class MeasuredLabels:
    """Everything that annotations alone tell.

    Attributes:
        quality: the numbers over all.
        tables: `agreement`, `labels`, `annotators`, `pairs`, `confusion` and `confusion_by_pair`, each with a column
            `level`: what `agreement.py` and `annotators.py` give, at all levels.
        disagreements: as `list_disagreements` gives them.
        notes: what a reader should bear in mind.
    """

    quality: Quality
    tables: dict[str, pd.DataFrame]
    disagreements: pd.DataFrame
    notes: tuple[str, ...]

    def at_level(self, name: str) -> pd.DataFrame:
        """Rows of a table at the level that labels are settled at."""
        table = self.tables[name]
        return table[table["level"] == self.quality.level].drop(columns="level").reset_index(drop=True)


def measure_labels(annotations: pd.DataFrame, rule: LabelRule, *, exclude_reviewed: bool = True) -> MeasuredLabels:
    """Measure agreement at every level, and list photos whose annotators differ.

    Args:
        annotations: as `data.annotations` holds them.
        rule: how labels are settled.
        exclude_reviewed: whether agreement leaves out photos with a review: a reviewer may have put annotations right,
            and what is put right agrees by itself. Where every photo has one, none is left out.

    Raises:
        SparsightError: there is no annotation, or none reaches the level that labels are settled at.
    """
    _check(annotations, rule)
    free = annotations[~annotations["reviewed"]] if exclude_reviewed else annotations
    measured = free if len(free) else annotations
    found = {level: _measure(Votes.of(measured, level)) for level in levels_of(annotations["label"].unique().tolist())}
    tables = {
        name: pd.concat([tables[name].assign(level=level) for level, tables in found.items()], ignore_index=True)
        for name in found[0]
    }
    tables = {name: table[["level", *table.columns.drop("level")]] for name, table in tables.items()}
    disagreements = list_disagreements(annotations, rule)
    quality = Quality(
        level=rule.taxonomy_level,
        photos=_photos(annotations),
        reviewed=_photos(annotations[annotations["reviewed"]]),
        measured=_photos(measured),
        annotators=measured["annotator"].nunique(),
        agreement=[AlphaAt.model_validate(row) for row in _records(tables["agreement"])],
        disagreements=len(disagreements),
        unsettled=int((disagreements["label"] == "").sum()),
    )
    return MeasuredLabels(
        quality=quality, tables=tables, disagreements=disagreements, notes=tuple(_notes(quality, exclude_reviewed))
    )


def _check(annotations: pd.DataFrame, rule: LabelRule) -> None:
    if not len(annotations):
        raise SparsightError("No annotator has given any label, so there is nothing to measure.")
    if not len(rule.votes(annotations)):
        raise SparsightError(
            f"No label reaches level {rule.taxonomy_level} of the taxonomy.",
            hint="Take a higher level: 1 is the first one, 0 the whole path.",
        )


def _measure(votes: Votes) -> dict[str, pd.DataFrame]:
    found = measure_agreement(votes)
    return {
        "agreement": found.overall.assign(photos=found.photos, votes=found.votes),
        "labels": found.classes,
        "annotators": measure_annotators(votes),
        "pairs": measure_pairs(votes),
        "confusion": confusion_by_label(votes),
        "confusion_by_pair": confusion_by_pair(votes),
    }


def _photos(annotations: pd.DataFrame) -> int:
    return len(annotations[PHOTO].drop_duplicates())


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: what isn't known is None."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows]


def _notes(quality: Quality, exclude_reviewed: bool) -> Iterable[str]:
    left_out = quality.photos - quality.measured
    if left_out:
        yield f"{left_out:,} photos with a review are left out of the agreement: a review may have put them right."
    elif quality.reviewed and exclude_reviewed:
        yield "All photos have a review, which may have put annotations right: the agreement flatters."
    alpha = quality.alpha()
    if not alpha.photos:
        yield "No photo has two annotators at this level: nothing can be said of their agreement."
    elif alpha.alpha is None:
        yield "All annotators always say the same one thing: chance would bring that about, too."


def level_name(level: int) -> str:
    """Say a level in words."""
    return f"level {level}" if level else "whole path"


def verdict(alpha: float | None) -> str:
    """Say what an alpha is worth."""
    if alpha is None:
        return "unknown"
    return "reliable" if alpha >= RELIABLE else "tentative" if alpha >= TENTATIVE else "unreliable"


def told(alpha: AlphaAt) -> str:
    """Write an alpha with its interval."""
    if alpha.alpha is None:
        return "unknown"
    interval = "" if alpha.low is None else f" ({alpha.low:.3f} to {alpha.high:.3f})"
    return f"{alpha.alpha:.3f}{interval}, {verdict(alpha.alpha)}"


def agreement_by_level(quality: Quality) -> list[str]:
    """Tell how far annotators agree, in lines of text."""
    alphas = [quality.alpha(level) for level in quality.levels]
    return [
        f"{quality.measured:,} annotated photos, {quality.annotators} annotators; "
        f"{quality.alpha().photos:,} photos with two or more",
        "",
        "Krippendorff's alpha, 95 % interval",
        *(f"  {level_name(each.level):<12}{told(each)}" for each in alphas),
    ]


def summary(measured: MeasuredLabels, shown: int = 10) -> list[str]:
    """Tell the most important in lines of text: agreement by level, the worst labels, annotators; without the notes."""
    quality = measured.quality
    lines = agreement_by_level(quality)
    labels = measured.at_level("labels").dropna(subset="alpha").sort_values("alpha", kind="stable")[:shown]
    if len(labels):
        lines += ["", f"Labels with the lowest alpha ({level_name(quality.level)})"]
        lines += [f"  {row.alpha:6.3f}  {row.label} ({row.photos:,} photos)" for row in labels.itertuples()]
    annotators = measured.at_level("annotators").dropna(subset="agreement").sort_values("agreement", kind="stable")
    if len(annotators):
        lines += ["", "Annotators who say what most others say"]
        lines += [
            f"  {row.agreement:6.1%}  {row.annotator} ({row.compared:,} photos compared)"
            for row in annotators[:shown].itertuples()
        ]
    return [
        *lines,
        "",
        f"{quality.disagreements:,} photos with different labels, {quality.unsettled:,} of them unsettled",
    ]
