"""Plots of a tuning: values of trials, the metric over their epochs, importances of inputs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparsight.evaluation.plots import BLUE, GREY, ORANGE, dress, save, shorten


def plot_history(path: Path, trials: Sequence[tuple[int, float | None]], metric: str, *, higher: bool) -> None:
    """Draw each trial's value, and the best so far.

    Args:
        path: the PNG file.
        trials: numbers and values, which those that didn't come to their end lack.
        metric: its name.
        higher: whether higher is better.
    """
    figure = Figure((10, 3.6), layout="constrained")
    axes = figure.subplots()
    ended = [(number, value) for number, value in trials if value is not None]
    numbers, values = [number for number, _ in ended], [value for _, value in ended]
    best = [(max if higher else min)(values[: place + 1]) for place in range(len(values))]
    axes.plot(numbers, values, "o", color=BLUE, label="trial")
    axes.step(numbers, best, where="post", color=ORANGE, label="best so far")
    axes.set_xlabel("Trial")
    axes.set_ylabel(shorten(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, "Value of each trial that came to its end")
    axes.legend(loc="best", frameon=False)
    save(figure, path)


def plot_epochs(
    path: Path, trials: Mapping[int, Mapping[int, float]], pruned: Collection[int], best: int, metric: str
) -> None:
    """Draw the metric over epochs, a line a trial.

    Args:
        path: the PNG file.
        trials: by number, the metric by epoch.
        pruned: numbers of those that were ended early.
        best: number of the best.
        metric: its name.
    """
    figure = Figure((10, 3.6), layout="constrained")
    axes = figure.subplots()
    kinds = {"pruned": (GREY, 1), "came to its end": (BLUE, 2), f"the best, trial {best}": (ORANGE, 3)}
    named: set[str] = set()
    for number, epochs in trials.items():
        kind = list(kinds)[2 if number == best else 0 if number in pruned else 1]
        colour, order = kinds[kind]
        mark = "o" if len(epochs) < 3 else None
        label = None if kind in named else kind
        named.add(kind)
        shade = 1.0 if number == best else 0.45
        axes.plot(
            list(epochs), list(epochs.values()), color=colour, alpha=shade, zorder=order, marker=mark, label=label
        )
    axes.set_xlabel("Epoch")
    axes.set_ylabel(shorten(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, "Over epochs, a line a trial")
    axes.legend(loc="best", frameon=False)
    save(figure, path)


def plot_importances(path: Path, importances: Mapping[str, float]) -> None:
    """Draw how much each input decides, in percent of all."""
    names = list(importances)
    figure = Figure((10, 1.2 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), [100 * importances[name] for name in names], 0.6, color=BLUE)
    axes.set_yticks(range(len(names)), [shorten(name, 32) for name in names])
    axes.invert_yaxis()
    dress(axes, "Importance of each input")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GREY, linewidth=0.4)
    axes.set_xlabel("Percent")
    save(figure, path)
