"""Handwritten digits of 16 pixels a side, packed: the photos of tests that learn."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from tests.packed_images import write_packed_images


def pack_digits(folder: Path, train: int, valid: int, **others: Any) -> Path:
    """Write so many digits into each split; `others` go to `write_packed_images`."""
    content, count = load_digits(), train + valid
    pixels = (content.images[:count] * 15.9).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    images = np.repeat(pixels[..., None], 3, axis=3)
    labels = [str(label) for label in content.target[:count]]
    return write_packed_images(folder, images, labels, ["train"] * train + ["valid"] * valid, shards=2, **others)
