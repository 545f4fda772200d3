"""Compares classifiers tested on the same images: a table, plots, a page, and how sure a difference is."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparsight.data.artefact import read_manifest, write_text
from sparsight.data.labels import counts_as
from sparsight.errors import SparsightError
from sparsight.evaluation.bootstrap import CONFIDENCE, RESAMPLES, bootstrap_gain
from sparsight.evaluation.metrics import PREDICTIONS, Metrics, Predictions, read_metrics, read_predictions
from sparsight.evaluation.page import write_page
from sparsight.evaluation.plots import plot_comparison
from sparsight.evaluation.stored import METRICS

TABLE, NUMBERS, SUMMARY, CHART = "comparison.csv", "comparison.json", "summary.txt", "comparison.png"
SCORES = {"macro_f1": "Macro F1", "accuracy": "Accuracy", "weighted_f1": "Weighted F1"}
HIERARCHICAL = {"hierarchical_f1": "Hierarchical F1"}
"""Where the labels are a taxonomy."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of a comparison: its test metrics and predictions, and the parameters that made it."""

    metrics: Metrics
    predictions: Predictions
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What one model has over another in test macro F1, and the interval that a paired bootstrap puts it in."""

    model: str
    over: str
    gain: float
    low: float
    high: float

    @property
    def is_settled(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def sentence(self) -> str:
        """Tell it to a person."""
        text = (
            f"{self.model} over {self.over}: {self.gain:+.3f} macro F1 "
            f"({CONFIDENCE:.0%} interval {self.low:+.3f} to {self.high:+.3f})"
        )
        return text if self.is_settled else f"{text}; not settled: the interval holds 0"


def read_entry(folder: Path) -> Entry:
    """Read what a model folder's report says.

    Raises:
        SparsightError: not a model artefact, or one without a classifier's report.
    """
    manifest = read_manifest(folder, "model")
    if not (folder / "report" / PREDICTIONS).is_file():
        raise SparsightError(
            f"{folder} holds no report/{PREDICTIONS}; expected a model made by train_classifier.",
        )
    return Entry(
        metrics=read_metrics(folder / "report" / METRICS),
        predictions=read_predictions(folder / "report" / PREDICTIONS),
        parameters=manifest.parameters,
    )


def check_comparable(entries: Mapping[str, Entry]) -> None:
    """Refuse models that were tested on different images, or on the same ones under different labels."""
    first, *others = entries
    for name in others:
        one, other = entries[first].metrics, entries[name].metrics
        if one.images_digest != other.images_digest:
            raise SparsightError(
                f"{name} was tested on other images or labels ({other.images}) than {first} ({one.images}); "
                "their scores can't be compared.",
                hint="Train them on the same images folder.",
            )


def gains(entries: Mapping[str, Entry], baselines: Sequence[str]) -> list[Gain]:
    """Measure every other model against each baseline that is there."""
    return [
        _gain(model, baseline, entries)
        for baseline in baselines
        for model in entries
        if baseline in entries and model not in baselines
    ]


def _gain(model: str, over: str, entries: Mapping[str, Entry]) -> Gain:
    ours, theirs = (entries[name].predictions.to_frame().sort_values(["id", "label"]) for name in (model, over))
    truth = ours["label"].tolist()
    said = [[counts_as(*pair) for pair in zip(each["predicted"], truth, strict=True)] for each in (ours, theirs)]
    gain, low, high = bootstrap_gain(truth, *said)
    return Gain(model=model, over=over, gain=gain, low=low, high=high)


def write_comparison(folder: Path, entries: Mapping[str, Entry], baselines: Sequence[str]) -> str:
    """Write comparison.json, comparison.csv, comparison.png, index.html and summary.txt.

    Args:
        folder: where to; it is there.
        entries: the models by name, in the order to show them in.
        baselines: names that the others are measured against, where they are there.

    Returns:
        The content of summary.txt.

    Raises:
        SparsightError: the models weren't tested on the same images.
    """
    check_comparable(entries)
    found, scores = gains(entries, baselines), _scores(entries)
    plot_comparison(
        folder / CHART,
        {name: {title: _score(e, key) for key, title in scores.items()} for name, e in entries.items()},
        {name: {label: each.f1 for label, each in _tested(e.metrics).items()} for name, e in entries.items()},
    )
    write_text(folder / NUMBERS, _numbers(entries, found))
    write_text(folder / TABLE, _table(entries))
    summary = _summary(entries, found)
    write_text(folder / SUMMARY, summary)
    write_page(
        folder,
        "comparison.html",
        {"chart": folder / CHART},
        title="Comparison",
        entries=entries,
        tested={name: _tested(entry.metrics) for name, entry in entries.items()},
        scores=scores,
        gains=found,
        best={key: max(_score(entry, key) for entry in entries.values()) for key in scores},
        count=next(iter(entries.values())).metrics.images,
        differing=_differing(entries),
    )
    return summary


def _scores(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Titles of the scores that all models have, by name."""
    return SCORES | (HIERARCHICAL if all(entry.metrics.hierarchy for entry in entries.values()) else {})


def _score(entry: Entry, key: str) -> float:
    return entry.metrics.overall()[key]


def _tested(metrics: Metrics) -> dict[str, Any]:
    """The classes that occur in the test images, which all models of a comparison share."""
    return {label: each for label, each in sorted(metrics.classes.items()) if each.support}


def _numbers(entries: Mapping[str, Entry], found: Sequence[Gain]) -> str:
    content = {
        "models": {
            name: {**entry.metrics.model_dump(), "parameters": dict(entry.parameters)}
            for name, entry in entries.items()
        },
        "gains": [{**asdict(gain), "confidence": CONFIDENCE, "resamples": RESAMPLES} for gain in found],
    }
    return json.dumps(content, indent=2) + "\n"


def _table(entries: Mapping[str, Entry]) -> str:
    labels = list(_tested(next(iter(entries.values())).metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = _scores(entries)
    writer.writerow(["model", *scores, "calibration_error", *(f"f1 of {label}" for label in labels)])
    for name, entry in entries.items():
        overall = [_score(entry, key) for key in (*scores, "calibration_error")]
        each = [entry.metrics.classes[label].f1 for label in labels]
        writer.writerow([name, *(f"{value:.6f}" for value in (*overall, *each))])
    return text.getvalue()


def _summary(entries: Mapping[str, Entry], found: Sequence[Gain]) -> str:
    metrics = next(iter(entries.values())).metrics
    scores = _scores(entries)
    width = max(len(name) for name in entries)
    lines = [f"The same {metrics.images:,} test images, {len(_tested(metrics))} classes", ""]
    lines.append(f"{'':{width}}  " + "  ".join(f"{title:>11}" for title in scores.values()))
    for name, entry in entries.items():
        values = "  ".join(f"{_score(entry, key):{max(11, len(title))}.3f}" for key, title in scores.items())
        lines.append(f"{name:{width}}  {values}")
    lines += ["", *(gain.sentence() for gain in found)]
    return "\n".join(lines) + "\n"


def _differing(entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Parameters that aren't the same in all models: name -> value in each."""
    names = sorted({name for entry in entries.values() for name in entry.parameters})
    values = {name: [_told(entry.parameters.get(name)) for entry in entries.values()] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {each}" for name, each in value.items())
    return "" if value is None else str(value)
