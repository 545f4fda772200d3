"""What choosing photos is worth: accuracies with chosen ones and with as many at random, and a paired test."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.evaluation.page import write_page
from sparsight.evaluation.plots import BLUE, DPI, GREY, PALE

REPEATS, NUMBERS, SUMMARY, CHART = "repeats.csv", "sampling.json", "summary.txt", "sampling.png"
CONFIDENCE = 0.95
SETTLED = 0.05


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Test accuracies of one repeat, 0 to 1; both networks began with the same seed."""

    seed: int
    chosen: float
    at_random: float


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Of the differences of all repeats: mean, standard deviation, interval of the mean, and Student's paired t-test.

    Attributes:
        p_value: how often differences at least as far from 0 would come about if choosing were worth nothing; None
            where one repeat, or no spread, tells nothing.
    """

    mean: float
    deviation: float
    low: float
    high: float
    p_value: float | None

    @classmethod
    def of(cls, repeats: Sequence[Repeat]) -> "Gain":
        """Measure it. With one repeat the interval is without bounds."""
        from scipy import stats

        differences = np.array([each.chosen - each.at_random for each in repeats])
        mean, count = float(differences.mean()), len(differences)
        deviation = float(differences.std(ddof=1)) if count > 1 else 0.0
        if not deviation:
            bound = np.inf if count == 1 else 0.0
            return cls(mean=mean, deviation=0.0, low=mean - bound, high=mean + bound, p_value=None)
        error = deviation / count**0.5
        bound = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
        p_value = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
        return cls(mean=mean, deviation=deviation, low=mean - bound, high=mean + bound, p_value=p_value)

    @property
    def verdict(self) -> str:
        """Say what the test says."""
        if self.p_value is None:
            return "no test: it takes two repeats that differ"
        if self.p_value >= SETTLED:
            return f"not settled (p = {self.p_value:.2g})"
        return f"{'better' if self.mean > 0 else 'worse'} than random (p = {self.p_value:.2g})"


def write_sampling(folder: Path, repeats: Sequence[Repeat], *, strategy: str, budget: int, test_images: int) -> None:
    """Write repeats.csv, sampling.json, sampling.png, summary.txt and index.html.

    Args:
        folder: where to; it is there.
        repeats: one or more.
        strategy: by which photos were chosen.
        budget: how many.
        test_images: images of the test split.
    """
    table, gain = pd.DataFrame(repeats), Gain.of(repeats)
    rows = {name: (float(table[name].mean()), float(table[name].std(ddof=1))) for name in ("chosen", "at_random")}
    table.to_csv(folder / REPEATS, index=False)
    content = {
        "strategy": strategy,
        "budget": budget,
        "repeats": len(repeats),
        **{f"{name}_accuracy": mean for name, (mean, _) in rows.items()},
        "gain": gain.mean,
        "gain_deviation": gain.deviation,
        "p_value": gain.p_value,
    }
    write_text(folder / NUMBERS, json.dumps(content, indent=2) + "\n")
    _plot(folder / CHART, table[["chosen", "at_random"]].to_numpy(), strategy)
    write_text(folder / SUMMARY, _summary(rows, gain, strategy, budget, len(repeats), test_images))
    write_page(
        folder,
        "sampling.html",
        {"chart": folder / CHART},
        title="Chosen photos against random ones",
        repeats=repeats,
        rows=rows,
        gain=gain,
        strategy=strategy,
        budget=budget,
        test_images=test_images,
    )


def _summary(
    rows: dict[str, tuple[float, float]], gain: Gain, strategy: str, budget: int, repeats: int, test_images: int
) -> str:
    lines = [f"Networks trained on {budget:,} photos, {repeats} times; accuracy on {test_images:,} test images", ""]
    for name, (mean, deviation) in rows.items():
        told = strategy if name == "chosen" else "at random"
        lines.append(f"{told:<16}{mean:7.2%}  standard deviation {0 if np.isnan(deviation) else deviation:.2%}")
    lines += ["", f"gain {100 * gain.mean:+.2f} points, standard deviation {100 * gain.deviation:.2f}: {gain.verdict}"]
    return "\n".join(lines) + "\n"


def _plot(path: Path, accuracies: NDArray[np.float64], strategy: str) -> None:
    """Draw each repeat as a line from random to chosen; accuracies: repeats x 2, chosen first."""
    figure = Figure((5.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for chosen, at_random in accuracies:
        axes.plot([0, 1], [at_random, chosen], color=PALE, zorder=1)
    for place, column, colour in ((0, 1, GREY), (1, 0, BLUE)):
        axes.scatter(np.full(len(accuracies), place), accuracies[:, column], color=colour, zorder=2)
    axes.set_xticks([0, 1], ["at random", strategy])
    axes.set_xlim(-0.4, 1.4)
    axes.set_ylabel("test accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
