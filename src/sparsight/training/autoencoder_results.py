"""What a trained autoencoder comes to: the context model of its bits, and size and quality at each rate."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.corruption import resize_by_area
from sparsight.data.packed import PackedImages
from sparsight.models.autoencoder import Autoencoder
from sparsight.models.autoencoder_folder import load_autoencoder
from sparsight.models.codec.container import OVERHEAD
from sparsight.models.codec.contexts import Bits, Contexts, learn_contexts
from sparsight.models.codec.packing import cost
from sparsight.models.codec.rates import Rate
from sparsight.models.ssim import psnr, ssim
from sparsight.training.autoencoder import AutoencoderTrainer, rates
from sparsight.training.inference import batches
from sparsight.training.loop import fetch_batches

LEARNED_FROM = 200
"""Training images that the context model is learned from, at most."""


def contexts_of(trainer: AutoencoderTrainer) -> Contexts | None:
    """Learn the context model of a trained network's bits from images that it was trained on; None for floats."""
    if not trainer.network.description.binary:
        return None
    drawn = np.random.default_rng(trainer.options.seed).permutation(trainer.train)[:LEARNED_FROM]
    return learn_contexts(np.concatenate([bits for bits, _ in _encoded(trainer, drawn)]))


def measure_rates(trainer: AutoencoderTrainer, contexts: Contexts | None, positions: NDArray[np.int64]) -> list[Rate]:
    """Measure whole images at several rates, each with what `rates` names."""
    sizes: dict[int, list[float]] = {}
    scores: dict[int, list[Tensor]] = {}
    for bits, clean in _encoded(trainer, positions):
        pixels = clean.shape[2] * clean.shape[3]
        costs = [cost(each, contexts) for each in bits] if contexts else []
        for kept in rates(trainer.network):
            made = reconstruct(trainer.network, clean, kept)
            scores.setdefault(kept, []).append(torch.stack([ssim(made, clean), psnr(made, clean)]))
            floats = [trainer.network.description.bits_per_pixel] * len(clean)
            files = [(each[kept - 1] + 8 * OVERHEAD) / pixels for each in costs]
            sizes.setdefault(kept, []).extend(files if contexts else floats)
    found = []
    for kept, parts in scores.items():
        likeness, decibels = torch.cat(parts, dim=1).mean(dim=1).tolist()
        found.append(Rate(channels=kept, bits_per_pixel=float(np.mean(sizes[kept])), ssim=likeness, psnr=decibels))
    return found


@torch.no_grad()
def reconstruct(network: Autoencoder, images: Tensor, kept: int | None = None) -> Tensor:
    """Encode and decode images, float N x 3 x H x W of 0 to 1, with so many channels kept, by default all."""
    channels = torch.full((len(images),), kept or network.description.channels, device=images.device)
    return network(images, channels)[0].clamp(0, 1)  # type: ignore[no-any-return]


def whole_images(images: PackedImages, positions: NDArray[np.int64], image_size: int, device: torch.device) -> Tensor:
    """Whole images as a network takes them, resized by area where `image_size` isn't 0: float, N x 3 x H x W."""
    pixels = torch.from_numpy(images.gather(positions)).to(device).permute(0, 3, 1, 2).float() / 255
    return resize_by_area(pixels, image_size) if image_size else pixels


def pictures(
    trainer: AutoencoderTrainer, measured: Sequence[Rate], positions: NDArray[np.int64]
) -> dict[str, NDArray[np.uint8]]:
    """Originals, and what becomes of them at each rate, by title: uint8, N x H x W x 3."""
    clean = trainer.whole(positions)
    rows = {"Original": clean}
    for rate in measured:
        rows[f"{rate.bits_per_pixel:.2f} bits a pixel, SSIM {rate.ssim:.3f}"] = reconstruct(
            trainer.network, clean, rate.channels
        )
    return {title: (row * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy() for title, row in rows.items()}


@torch.no_grad()
def whole_codes(folder: Path, images: PackedImages, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Encode packed images to one code each, for search.

    Args:
        folder: of an autoencoder's model.
        images: packed images of sides that are multiples of a cell's.
        positions: which ones.

    Returns:
        uint8, N x `code_bits` / 8: bits packed as FAISS takes them, the first the highest of the first byte.

    Raises:
        SparsightError: no such model.
    """
    network, _ = load_autoencoder(folder)
    found = []
    for pixels in fetch_batches(images, batches(positions), torch.device("cpu")):
        features = network.encode(pixels.permute(0, 3, 1, 2).float() / 255)[1]
        found.append(np.packbits((network.whole_code(features) > 0).numpy(), axis=1, bitorder="big"))
    return np.concatenate(found)


@torch.no_grad()
def _encoded(trainer: AutoencoderTrainer, positions: NDArray[np.int64]) -> Iterator[tuple[Bits, Tensor]]:
    """Codes of images as 0 and 1, uint8 N x channels x h x w, and the images; a batch at a time."""
    trainer.network.eval()
    for start in range(0, len(positions), trainer.options.batch_size):
        clean = trainer.whole(positions[start : start + trainer.options.batch_size])
        code, _ = trainer.network.encode(clean)
        yield (code > 0).cpu().numpy().astype(np.uint8), clean
