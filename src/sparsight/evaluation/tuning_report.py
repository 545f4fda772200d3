"""The report of a tuning: its trials, the best one, what mattered; as pictures, JSON, and pages, one of them HiPlot."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from sparsight.data.artefact import write_text
from sparsight.evaluation.page import write_page
from sparsight.evaluation.tuning_plots import plot_epochs, plot_history, plot_importances

TRIALS, HIPLOT, SUMMARY = "trials.json", "hiplot.html", "summary.txt"
HISTORY, EPOCHS, IMPORTANCES = "history.png", "epochs.png", "importances.png"
STATES = {"complete": "complete", "pruned": "pruned", "fail": "failed"}
_SHOWN = 200
"""Trials in the page's table; all are in trials.json."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial that has ended.

    Attributes:
        number: from 0.
        state: complete, pruned or fail.
        value: what it is judged by; None of one that didn't come to its end.
        inputs: what it tried, by name.
        epochs: the metric by epoch, from 1.
        failure: what the step said.
    """

    number: int
    state: str
    value: float | None
    inputs: Mapping[str, Any]
    epochs: Mapping[int, float]
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """What a report is made of.

    Attributes:
        study: its name.
        parameters: of the tuning, by name: step, metric and direction among them.
        fixed: inputs that are the same in all trials.
        searched: names of those that aren't, in the order of the search space.
        trials: in order of their numbers.
        best_number: of the best trial.
        importances: of inputs, the most important first; empty where there are too few trials to tell.
        model: reference of the best trial's model.
    """

    study: str
    parameters: Mapping[str, Any]
    fixed: Mapping[str, Any]
    searched: Sequence[str]
    trials: Sequence[TrialResult]
    best_number: int
    importances: Mapping[str, float]
    model: str

    @property
    def metric(self) -> str:
        """What trials are judged by."""
        return str(self.parameters["metric"])

    @cached_property
    def best(self) -> TrialResult:
        """The best trial."""
        return next(trial for trial in self.trials if trial.number == self.best_number)

    @property
    def best_value(self) -> float:
        """What the best trial is judged by."""
        assert self.best.value is not None  # noqa: S101 -- for the type checker: it came to its end
        return self.best.value

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials by how they ended."""
        states = Counter(trial.state for trial in self.trials)
        return {"trials": len(self.trials), "pruned": states["pruned"], "failed": states["fail"]}


def write_tuning_report(folder: Path, result: TuningResult) -> None:
    """Write pictures, trials.json, summary.txt, index.html and hiplot.html into a folder."""
    images = {"history": folder / HISTORY, "epochs": folder / EPOCHS}
    trials, higher = result.trials, result.parameters["direction"] == "maximise"
    plot_history(images["history"], [(trial.number, trial.value) for trial in trials], result.metric, higher=higher)
    plot_epochs(
        images["epochs"],
        {trial.number: trial.epochs for trial in trials},
        [trial.number for trial in trials if trial.state == "pruned"],
        result.best_number,
        result.metric,
    )
    if result.importances:
        images["importances"] = folder / IMPORTANCES
        plot_importances(images["importances"], result.importances)
    content = {**asdict(result), "best": asdict(result.best)}
    write_text(folder / TRIALS, json.dumps(content, indent=2, sort_keys=True) + "\n")
    write_text(folder / SUMMARY, _summary(result))
    write_hiplot(folder, result)
    _write_page(folder, result, images)


def write_hiplot(folder: Path, result: TuningResult) -> None:
    """Write the page on which a line through axes is a trial, and axes can be cut; it loads nothing from anywhere."""
    script = files("hiplot").joinpath("static", "built", "hiplot.bundle.js").read_text(encoding="utf-8")
    rows = [
        {"uid": str(trial.number), "from_uid": None, "values": _row(trial, result.metric)} for trial in result.trials
    ]
    columns = ["trial", *result.searched, result.metric]
    options = {
        "dataProviderName": "none",
        "experiment": {
            "datapoints": rows,
            "parameters_definition": {},
            "colormap": "interpolateTurbo",
            "colorby": result.metric,
            "weightcolumn": None,
            # Axes stand from right to left in the order given.
            "display_data": {
                "PARALLEL_PLOT": {"order": columns[::-1], "hide": ["uid", "from_uid"]},
                "TABLE": {"hide": ["uid", "from_uid"]},
            },
            "enabled_displays": ["PARALLEL_PLOT", "TABLE"],
        },
    }
    write_page(folder, "hiplot.html", {}, name=HIPLOT, title=f"Trials of {result.study}", options=options, code=script)


def _row(trial: TrialResult, metric: str) -> dict[str, Any]:
    value = trial.value if trial.value is not None else list(trial.epochs.values() or [None])[-1]
    told = {**trial.inputs, "trial": trial.number, "state": STATES[trial.state], metric: value}
    return {name: str(each) if isinstance(each, bool) else each for name, each in told.items() if each is not None}


def _summary(result: TuningResult) -> str:
    counts, best = result.counts, result.best
    inputs = "\n".join(f"  {name}: {shown(value)}" for name, value in best.inputs.items())
    return (
        f"Trial {best.number} of {counts['trials']} is the best: {result.metric} {shown(best.value)}, {result.model}\n"
        f"{inputs}\n{counts['pruned']} trials were pruned, {counts['failed']} failed.\n"
    )


def shown(value: Any) -> str:
    """Write a value with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_page(folder: Path, result: TuningResult, images: dict[str, Path]) -> None:
    counts, best = result.counts, result.best
    write_page(
        folder,
        "tuning.html",
        images,
        title="Tuning",
        lead=f"{result.parameters['step']}, {counts['trials']} trials of the study {result.study}; "
        f"trial {best.number} is the best, and its model is {result.model}.",
        figures=[
            (result.metric, shown(best.value)),
            ("Trials", counts["trials"]),
            ("Pruned", counts["pruned"]),
            ("Failed", counts["failed"]),
        ],
        notes=_notes(result),
        metric=result.metric,
        best=best,
        rows=[
            (trial, [shown(trial.inputs.get(name, "")) for name in result.searched], shown(trial.value))
            for trial in result.trials[:_SHOWN]
        ],
        searched=result.searched,
        trials=len(result.trials),
        shown=shown,
        hiplot=HIPLOT,
        parameters={**result.parameters, **{f"{name} (fixed)": value for name, value in result.fixed.items()}},
    )


def _notes(result: TuningResult) -> list[str]:
    notes = [
        "The best value is the best of many on the same photos, so it flatters: measure the model on photos that no "
        "trial was judged by."
    ]
    if not result.importances:
        notes.append("There are too few trials to tell which inputs matter.")
    return notes
