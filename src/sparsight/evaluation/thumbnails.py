"""Small copies of photos inside a page: one by one, or many in one picture."""

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

QUALITY = 75


def thumbnail(image: NDArray[np.uint8], side: int) -> str:
    """Scale a photo, uint8 H x W x 3, down to at most `side` pixels, as the data URI of a JPEG."""
    return _data_uri(_scaled(image, side))


def sheet(images: list[NDArray[np.uint8]], side: int) -> tuple[str, int]:
    """Put photos, uint8 H x W x 3, side by side into one picture, row by row, each in a square of `side` pixels.

    Returns:
        The data URI of a JPEG, and how many photos a row holds.
    """
    columns = max(1, math.ceil(math.sqrt(len(images))))
    rows = max(1, math.ceil(len(images) / columns))
    whole = Image.new("RGB", (columns * side, rows * side), "white")
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        whole.paste(_scaled(image, side), (column * side, row * side))
    return _data_uri(whole), columns


def _scaled(image: NDArray[np.uint8], side: int) -> Image.Image:
    scaled = Image.fromarray(image)
    scaled.thumbnail((side, side), Image.Resampling.LANCZOS)
    return scaled


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
