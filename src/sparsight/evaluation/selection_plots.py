"""Plots of a choice of photos: how well it covers all of them, and how its classes are balanced."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sparsight.evaluation.plots import BLUE, GREY, ORANGE, PALE, dress, save, shorten

_CLASSES = 24


def plot_coverage(
    path: Path, sizes: Sequence[int], chosen: Mapping[str, Sequence[float]], random: Mapping[str, Sequence[float]]
) -> None:
    """Draw what photos chosen and photos at random cover, over how many there are.

    Args:
        path: the PNG file.
        sizes: S numbers of photos.
        chosen: by the title of a panel, S distances.
        random: the same of photos at random.
    """
    figure = Figure((10, 3.6), layout="constrained")
    for axes, title in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        mark = "o" if len(sizes) < 3 else None
        axes.plot(sizes, random[title], color=GREY, linestyle="--", marker=mark, label="at random")
        axes.plot(sizes, chosen[title], color=BLUE, marker=mark, label="chosen")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("Photos chosen")
        axes.set_ylim(0, None)
        dress(axes, title)
        axes.legend(loc="best", frameon=False)
    save(figure, path)


def plot_balance(path: Path, chosen: Mapping[str, float], everything: Mapping[str, float]) -> None:
    """Draw each class's share of the photos chosen, and of all there were to choose from.

    Args:
        path: the PNG file.
        chosen: share, 0 to 1, by class.
        everything: the same of all photos; the 24 largest classes are drawn.
    """
    names = sorted(everything, key=lambda name: (-everything[name], name))[:_CLASSES]
    figure = Figure((10, 1.2 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    places = range(len(names))
    axes.barh([place + 0.2 for place in places], [100 * everything[name] for name in names], 0.36, color=GREY)
    axes.barh([place - 0.2 for place in places], [100 * chosen.get(name, 0) for name in names], 0.36, color=ORANGE)
    axes.set_yticks(places, [shorten(name, 32) for name in names])
    axes.invert_yaxis()
    dress(axes, "Share of each class")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_xlabel("Percent of photos")
    figure.legend(["all there were to choose from", "chosen"], loc="outside upper right", frameon=False, ncols=2)
    save(figure, path)
