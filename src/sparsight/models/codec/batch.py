"""Compresses and decompresses many files on all cores; one that can't be is told of, and stops no other."""

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from sparsight.data.decode import decode_whole
from sparsight.errors import SparsightError
from sparsight.models.codec.codec import Codec, Pixels
from sparsight.models.codec.container import SUFFIX
from sparsight.models.codec.places import Found, Place

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
COMPRESSED = (SUFFIX,)


@dataclass
class Summary:
    """What a batch came to.

    Attributes:
        files: that were done.
        pixels: of all their images.
        read: bytes; `written` alike.
        failed: name -> why, of those that weren't.
    """

    files: int = 0
    pixels: int = 0
    read: int = 0
    written: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def compress_files(
    codec: Codec, files: Sequence[Found], target: Place, bits_per_pixel: float | None, jobs: int
) -> Summary:
    """Compress images: x.jpg becomes x.jpg.spsz."""

    def work(content: bytes, name: str) -> tuple[str, bytes, str, Pixels]:
        pixels = decode_whole(content)
        return f"{name}{SUFFIX}", codec.compress(pixels, bits_per_pixel), "application/octet-stream", pixels

    return _batch(work, files, target, jobs)


def decompress_files(codec: Codec, files: Sequence[Found], target: Place, jobs: int) -> Summary:
    """Decompress files: x.jpg.spsz becomes x.jpg.png."""

    def work(content: bytes, name: str) -> tuple[str, bytes, str, Pixels]:
        pixels = codec.decompress(content)
        stem = name.removesuffix(SUFFIX)
        named = stem if PurePosixPath(stem).suffix.lower() == ".png" else f"{stem}.png"
        return named, _png(pixels), "image/png", pixels

    return _batch(work, files, target, jobs)


def _batch(
    work: Callable[[bytes, str], tuple[str, bytes, str, Pixels]], files: Sequence[Found], target: Place, jobs: int
) -> Summary:
    summary, lock = Summary(), threading.Lock()

    def one(found: Found) -> None:
        try:
            content = found.place.read(found.name)
            name, made, kind, pixels = work(content, found.name)
            target.write(name, made, kind)
        except SparsightError as error:
            with lock:
                summary.failed[found.name] = str(error)
            return
        with lock:
            summary.files += 1
            summary.pixels += pixels.shape[0] * pixels.shape[1]
            summary.read += len(content)
            summary.written += len(made)

    with ThreadPoolExecutor(jobs, "files") as pool:
        for _ in pool.map(one, files):
            pass
    return summary


def _png(pixels: Pixels) -> bytes:
    """A PNG file, of one channel where all three are equal."""
    grey = bool((pixels == pixels[..., :1]).all())
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if grey else pixels).save(content, "PNG")
    return content.getvalue()
