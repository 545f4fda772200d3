"""A map of embeddings: two dimensions in which neighbours stay neighbours, drawn with a colour for each label."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from sparsight.evaluation.plots import DPI

MAP_POINTS = 1500
"""Most embeddings that are drawn; more make neither a better picture nor a fast one."""
_COLOURS = 12
_FEWEST_FOR_TSNE = 12


def sample(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Choose which of so many embeddings are drawn, in ascending order."""
    chosen = np.random.default_rng(seed).permutation(count)[:MAP_POINTS]
    return np.sort(chosen)


def project(embeddings: NDArray[np.float32], seed: int = 0) -> tuple[NDArray[np.float32], str]:
    """Lay embeddings out in two dimensions.

    t-SNE (van der Maaten and Hinton 2008) by cosine distance, begun from principal components; those alone where
    there are too few embeddings for neighbourhoods.

    Args:
        embeddings: N x D, N at least 1.
        seed: of t-SNE.

    Returns:
        N x 2, and the method's name.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / np.maximum(lengths, 1e-12)
    if len(directions) < _FEWEST_FOR_TSNE:
        centred = directions - directions.mean(axis=0)
        components = np.zeros((len(directions), 2), np.float32)
        found = PCA(min(2, *centred.shape)).fit_transform(centred)
        components[:, : found.shape[1]] = found
        return components, "PCA"
    perplexity = min(30.0, (len(directions) - 1) / 3)
    # Of unit vectors, Euclidean and cosine distance put neighbours in the same order.
    layout = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return np.asarray(layout.fit_transform(directions), np.float32), "t-SNE"


def plot_map(path: Path, points: NDArray[np.float32], labels: Sequence[str], method: str) -> None:
    """Draw a map as a PNG file.

    Args:
        path: the file.
        points: N x 2.
        labels: N; empty for none. The most frequent ones get a colour, the rest share grey.
        method: how the points were laid out.
    """
    figure = Figure((8.2, 6.2), layout="constrained")
    axes = figure.add_subplot()
    names = np.asarray(labels, dtype=str)
    shown = [name for name, _ in Counter(name for name in labels if name).most_common(_COLOURS)]
    others = ~np.isin(names, shown)
    title = "other" if shown else "image"
    if others.any():
        rest = points[others]
        axes.scatter(
            rest[:, 0], rest[:, 1], s=9, color="#98a2b3", linewidths=0, alpha=0.7, label=f"{title} ({others.sum()})"
        )
    for number, name in enumerate(shown):
        here = points[names == name]
        colour = f"C{number}" if number < 10 else ("#1d2433", "#c2a300")[number - 10]
        axes.scatter(
            here[:, 0], here[:, 1], s=14, color=colour, linewidths=0, alpha=0.85, label=f"{name} ({len(here)})"
        )
    axes.set_title(f"{len(points):,} embeddings, laid out by {method}", loc="left", fontweight="bold", fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#d7dce4")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, markerscale=1.8)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
