"""Compresses images with a trained autoencoder: pixels to a file's bytes, and back."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.data.decode import MAX_PIXELS
from sparsight.errors import SparsightError
from sparsight.models.autoencoder_folder import load_autoencoder
from sparsight.models.codec.container import LONGEST_SIDE, OVERHEAD, CompressedError, CompressedImage
from sparsight.models.codec.contexts import Bits, Contexts
from sparsight.models.codec.packing import affordable, pack, unpack
from sparsight.models.codec.tiles import Tile, scaled, tiles
from sparsight.models.folder import WEIGHTS

Pixels = NDArray[np.uint8]
_MODEL_BYTES = 8
_MOST_WORDS_MORE = 2
"""32-bit words that a range coder may need beside what bits cost."""


class Codec:
    """A trained autoencoder and its context model, for images of any size.

    Networks run on one thread each, tiles beside each other on several: so the same image gives the same bytes, and the
    same bytes the same pixels, whatever the number of threads. Across machines only the bits are sure to come out the
    same: rounding in another processor's convolutions may change a pixel by one.

    Args:
        folder: a model folder as train_autoencoder makes it, of a binary autoencoder.
        threads: tiles worked on at the same time.

    Raises:
        SparsightError: no such model, a damaged one, or one with floats in place of bits.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.network, contexts = load_autoencoder(folder)
        self.description = self.network.description
        if contexts is None:
            raise SparsightError(
                f"{folder} holds an autoencoder whose code is floats; only bits are compressed.",
                hint="Train one with binary=true.",
            )
        self.contexts: Contexts = contexts
        with (folder / WEIGHTS).open("rb") as file:
            self.model = hashlib.file_digest(file, "sha256").digest()[:_MODEL_BYTES]
        # All networks run in these threads, each by itself; a pool's work, not the caller's, is on one thread.
        self._threads = ThreadPoolExecutor(threads, "codec", initializer=torch.set_num_threads, initargs=(1,))

    @property
    def cell(self) -> int:
        """Pixels a side that a cell of the code stands for."""
        return self.description.cell

    def compress(self, pixels: Pixels, bits_per_pixel: float | None = None) -> bytes:
        """Compress an image.

        Args:
            pixels: uint8, H x W x 3.
            bits_per_pixel: as many stages of the code are kept as fit into so many, the header included, at least one;
                all by default. It counts for designs with stages.

        Raises:
            SparsightError: the image is empty or too large.
        """
        height, width = pixels.shape[:2]
        if not 1 <= height * width <= MAX_PIXELS or max(height, width) > LONGEST_SIDE:
            raise SparsightError(
                f"An image of {width:,} x {height:,} pixels can't be compressed; at most {MAX_PIXELS:,}."
            )
        bits = self.bits_of(pixels)
        if bits_per_pixel is not None:
            bits = bits[: self._affordable(bits, bits_per_pixel * height * width)]
        packed = pack(bits, self.contexts)
        grey = bool((pixels == pixels[..., :1]).all())
        return CompressedImage(
            width=width, height=height, grey=grey, channels=len(bits), model=self.model, packed=packed
        ).to_bytes()

    def decompress(self, content: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
        """Make an image, uint8 H x W x 3, of a compressed file.

        Raises:
            CompressedError: it is none, was changed or cut short, declares too much, or another model made it.
        """
        image = CompressedImage.of_bytes(content, max_pixels=max_pixels)
        if image.model != self.model:
            raise CompressedError(
                f"The file was made with the model {image.model.hex()}; this one is {self.model.hex()}.",
                hint="Give the model that it was compressed with.",
            )
        if image.channels > len(self.contexts.places) or image.channels % self.description.step:
            raise CompressedError(f"The file's header makes no sense: {image.channels} channels of this model's code.")
        shape = image.channels, -(-image.height // self.cell), -(-image.width // self.cell)
        pixels = self.pixels_of(unpack(image.packed, shape, self.contexts))[: image.height, : image.width]
        return _in_grey(pixels) if image.grey else np.ascontiguousarray(pixels)

    def bits_of(self, pixels: Pixels) -> Bits:
        """The code of an image: uint8, channels x h x w, of 0 and 1; sides are filled up to whole cells."""
        height, width = (-(-side // self.cell) for side in pixels.shape[:2])
        fill = [(0, height * self.cell - pixels.shape[0]), (0, width * self.cell - pixels.shape[1]), (0, 0)]
        whole = np.pad(pixels, fill, mode="edge")
        bits = np.empty((self.description.channels, height, width), np.uint8)

        def encode(tile: Tile) -> None:
            rows, columns = (scaled(part, self.cell) for part in tile.outer)
            code, _ = self.network.encode(_batch(whole[rows, columns]))
            bits[:, *tile.inner] = (code[0] > 0).numpy()[:, *tile.of_outer()]

        self._each(encode, tiles(height, width, self.description.reach))
        return bits

    def pixels_of(self, bits: Bits) -> Pixels:
        """The image that a code stands for: uint8, H x W x 3, of whole cells."""
        channels, height, width = bits.shape
        pixels = np.empty((height * self.cell, width * self.cell, 3), np.uint8)
        missing = self.description.channels - channels
        code = np.pad(bits, [(0, missing), (0, 0), (0, 0)])

        def decode(tile: Tile) -> None:
            signs = torch.from_numpy(code[:, *tile.outer].astype(np.float32)).unsqueeze(0) * 2 - 1
            image = self.network.decode(signs, torch.tensor([channels]))[0].clamp(0, 1)
            inner = image[:, *tile.of_outer(self.cell)].permute(1, 2, 0)
            rows, columns = (scaled(part, self.cell) for part in tile.inner)
            pixels[rows, columns] = (inner * 255).round().byte().numpy()

        self._each(decode, tiles(height, width, self.description.reach))
        return pixels

    def _affordable(self, bits: Bits, budget: float) -> int:
        """How many channels fit into so many bits, the header among them: whole stages, at least one."""
        step = self.description.step
        fitting = affordable(bits, self.contexts, budget - 8 * OVERHEAD - 32 * _MOST_WORDS_MORE)
        return max(step, fitting // step * step)

    def _each(self, work: Callable[[Tile], None], given: Iterable[Tile]) -> None:
        """Work on tiles, each on one thread."""
        for _ in self._threads.map(torch.inference_mode()(work), given):
            pass


def _batch(pixels: Pixels) -> torch.Tensor:
    """One image, uint8 H x W x 3, as a network takes it."""
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).float() / 255


def _in_grey(pixels: Pixels) -> Pixels:
    """The mean of three colours that shall be equal, three times."""
    mean = (pixels.sum(axis=2, dtype=np.uint16, keepdims=True) + 1) // 3
    return np.repeat(mean.astype(np.uint8), 3, axis=2)
