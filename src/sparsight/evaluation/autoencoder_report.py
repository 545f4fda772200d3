"""The report of an autoencoder: loss and SSIM over epochs, rates, originals beside reconstructions, as one page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.evaluation.page import write_page
from sparsight.evaluation.plots import BLUE, DPI, GREY, ORANGE
from sparsight.evaluation.stored import METRICS
from sparsight.evaluation.view_agreement import ViewComparison, plot_cross_correlation
from sparsight.models.codec.rates import Rate

CURVES, PICTURES, CORRELATION = "curves.png", "reconstructions.png", "cross_correlation.png"
_PROBES = {"knn": "kNN, 20 neighbours", "linear": "linear probe"}


@dataclass(frozen=True, kw_only=True)
class AutoencoderResult:
    """What a report is made of.

    Attributes:
        hyperparameters: by name.
        images: number of images trained on.
        validated: number of images measured on.
        history: for each epoch: epoch, loss, valid_loss, valid_ssim, valid_psnr.
        best_epoch: the one whose weights are kept.
        rates: from the lowest to the full one.
        pictures: rows of pictures by title: originals first; uint8 N x H x W x 3 each.
        comparison: of originals and reconstructions through an encoder, where one was given.
    """

    hyperparameters: Mapping[str, Any]
    images: int
    validated: int
    history: Sequence[Mapping[str, float]]
    best_epoch: int
    rates: Sequence[Rate]
    pictures: Mapping[str, NDArray[np.uint8]]
    comparison: ViewComparison | None


def write_autoencoder_report(folder: Path, result: AutoencoderResult) -> dict[str, float]:
    """Write the pictures, metrics.json and index.html, which holds them, and return the final numbers by name."""
    folder.mkdir(parents=True, exist_ok=True)
    plot_history(folder / CURVES, result)
    plot_pictures(folder / PICTURES, result.pictures)
    embedded = {"curves": folder / CURVES, "pictures": folder / PICTURES}
    if result.comparison:
        plot_cross_correlation(folder / CORRELATION, result.comparison)
        embedded["correlation"] = folder / CORRELATION
    final = final_metrics(result)
    content = {
        "final": final,
        "rates": [asdict(rate) for rate in result.rates],
        "hyperparameters": dict(result.hyperparameters),
        "history": list(result.history),
    }
    write_text(folder / METRICS, json.dumps(content, indent=2) + "\n")
    _write_page(folder, result, embedded)
    return final


def final_metrics(result: AutoencoderResult) -> dict[str, float]:
    """The full rate's numbers, and those of the comparison."""
    last = result.rates[-1]
    final = {"ssim": last.ssim, "psnr": last.psnr, "bits_per_pixel": last.bits_per_pixel}
    return final | (result.comparison.metrics() if result.comparison else {})


def plot_history(path: Path, result: AutoencoderResult) -> None:
    """Draw losses on the left, SSIM on the right, over epochs, the kept one marked."""
    figure = Figure((10, 3.8), layout="constrained")
    epochs = [record["epoch"] for record in result.history]
    marker = "o" if len(epochs) < 3 else None
    plots = (
        ("Loss", {"loss": "training", "valid_loss": "validation"}),
        ("SSIM at the full rate", {"valid_ssim": "validation"}),
    )
    for axes, (title, lines) in zip(figure.subplots(1, 2), plots, strict=True):
        for (key, name), colour in zip(lines.items(), (BLUE, ORANGE), strict=False):
            axes.plot(epochs, [record[key] for record in result.history], color=colour, label=name, marker=marker)
        axes.axvline(result.best_epoch, color=GREY, linestyle=":", label=f"kept: epoch {result.best_epoch}")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def plot_pictures(path: Path, rows: Mapping[str, NDArray[np.uint8]]) -> None:
    """Draw rows of pictures, an image in each column, each row under its title."""
    columns = max(len(pictures) for pictures in rows.values())
    figure = Figure((columns * 1.7, len(rows) * 2.0), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False).ravel()
    for part, (title, pictures) in zip(parts, rows.items(), strict=True):
        part.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10)
        for axes, picture in zip(part.subplots(1, columns, squeeze=False)[0], pictures, strict=False):
            axes.imshow(picture, interpolation="nearest")
            axes.axis("off")
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _write_page(folder: Path, result: AutoencoderResult, embedded: dict[str, Path]) -> None:
    last = result.rates[-1]
    probes = result.comparison.probes if result.comparison else {}
    write_page(
        folder,
        "autoencoder.html",
        embedded,
        title="Autoencoder",
        lead=f"The {result.hyperparameters['design']} design on {result.images:,} images, "
        f"{len(result.history)} epochs; measured on {result.validated:,} others.",
        figures=[
            ("SSIM", f"{last.ssim:.4f}"),
            ("PSNR", f"{last.psnr:.2f} dB"),
            ("Bits a pixel", f"{last.bits_per_pixel:.3f}"),
        ],
        rates=[
            (f"{rate.channels}", f"{rate.bits_per_pixel:.3f}", f"{rate.ssim:.4f}", f"{rate.psnr:.2f}")
            for rate in result.rates
        ],
        binary=result.hyperparameters["binary"],
        probes=[
            (name, *(f"{probes[f'{key}_{what}']:.3f}" for what in ("originals", "reconstructions", "agreement")))
            for key, name in _PROBES.items()
            if f"{key}_agreement" in probes
        ],
        parameters=result.hyperparameters,
    )
