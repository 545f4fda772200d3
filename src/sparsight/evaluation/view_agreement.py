"""Whether an encoder sees the same in reconstructions as in originals: cross-correlation, kNN and a linear probe."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.data.augment import normalise
from sparsight.data.packed import PackedImages
from sparsight.evaluation.plots import DPI
from sparsight.evaluation.probes import knn_predict
from sparsight.models.barlow import Agreement, cross_correlation

MOST = 1000
"""Images that are compared, and as many labelled ones that probes learn from, at most."""
_BATCH = 32
_NEIGHBOURS = 20
Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, kw_only=True)
class ViewComparison:
    """What an encoder makes of images and of their reconstructions, the two views of Barlow Twins.

    Attributes:
        matrix: float, D x D: the views' cross-correlation.
        agreement: what it says in two numbers.
        probes: of labelled images: `knn_originals`, `knn_reconstructions` and `knn_agreement`, the part of images
            that a probe gets right in either view, and that it says the same of; `linear_...` alike.
    """

    matrix: NDArray[np.float32]
    agreement: Agreement
    probes: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """All numbers by name."""
        both = {"view_diagonal": self.agreement.diagonal, "view_off_diagonal": self.agreement.off_diagonal}
        return both | self.probes


def compare_views(
    encoder: nn.Module,
    normalisation: Normalisation,
    images: PackedImages,
    prepare: Callable[[NDArray[np.int64]], Tensor],
    reconstruct: Callable[[Tensor], Tensor],
) -> ViewComparison:
    """Embed images and reconstructions, correlate, and where there are labels let probes judge.

    Probes learn from originals of the train split and are asked about both views of images of the valid split.

    Args:
        encoder: any backbone, N x 3 x H x W to N x D.
        normalisation: mean and standard deviation that it expects, by colour.
        images: packed images.
        prepare: from positions to images, float N x 3 x H x W of 0 to 1, on the encoder's device.
        reconstruct: from such images to such images.
    """
    encoder.eval()
    labels = images.index["label"].fillna("").to_numpy(str)
    bank, asked = (_some(images.positions(split)) for split in ("train", "valid"))
    asked = asked if len(asked) > 1 else bank

    def embed(positions: NDArray[np.int64], view: Callable[[Tensor], Tensor]) -> Tensor:
        return _embed(encoder, normalisation, positions, lambda part: view(prepare(part)))

    originals, copies = embed(asked, lambda batch: batch), embed(asked, reconstruct)
    matrix = cross_correlation(originals, copies)
    probes: dict[str, float] = {}
    bank, known = bank[labels[bank] != ""], labels[asked] != ""
    if len(set(labels[bank])) > 1 and known.any() and asked is not bank:
        learned = embed(bank, lambda batch: batch), labels[bank]
        probes = _probe(learned, originals[known], copies[known], labels[asked[known]])
    return ViewComparison(matrix=matrix.numpy(), agreement=Agreement.of(matrix), probes=probes)


def plot_cross_correlation(path: Path, comparison: ViewComparison) -> None:
    """Draw the cross-correlation matrix: originals down, reconstructions across."""
    figure = Figure((5.6, 4.8), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(comparison.matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    figure.colorbar(shown, label="Correlation over images")
    axes.set(xlabel="Feature of the reconstruction", ylabel="Feature of the original")
    title = f"Diagonal {comparison.agreement.diagonal:.3f}, mean square off it {comparison.agreement.off_diagonal:.3f}"
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _some(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    drawn: NDArray[np.int64] = np.sort(np.random.default_rng(0).permutation(positions)[:MOST])
    return drawn


@torch.no_grad()
def _embed(
    encoder: nn.Module,
    normalisation: Normalisation,
    positions: NDArray[np.int64],
    view: Callable[[NDArray[np.int64]], Tensor],
) -> Tensor:
    parts = []
    for start in range(0, len(positions), _BATCH):
        pixels = (view(positions[start : start + _BATCH]) * 255).round().byte().permute(0, 2, 3, 1)
        parts.append(encoder(normalise(pixels, *normalisation)).float().cpu())
    return torch.cat(parts)


def _probe(
    learned: tuple[Tensor, NDArray[np.str_]], originals: Tensor, copies: Tensor, truth: NDArray[np.str_]
) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    bank, names = learned
    classes, numbers = np.unique(names, return_inverse=True)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(bank.numpy(), names)
    targets = torch.from_numpy(numbers)
    said = {
        "knn": [classes[knn_predict(bank, targets, each, k=_NEIGHBOURS).numpy()] for each in (originals, copies)],
        "linear": [linear.predict(each.numpy()) for each in (originals, copies)],
    }
    found = {}
    for name, (first, second) in said.items():
        found[f"{name}_originals"] = float((first == truth).mean())
        found[f"{name}_reconstructions"] = float((second == truth).mean())
        found[f"{name}_agreement"] = float((first == second).mean())
    return found
