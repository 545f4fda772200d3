"""Which frames of videos are wanted, how small, and what is refused."""

from dataclasses import dataclass

from sparsight.errors import SparsightError

MAX_PIXELS = 8192 * 4320
"""Of a frame: 8K."""
MAX_SECONDS = 12 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How frames are taken from videos.

    Args:
        fps: frames taken a second, at most: of the frames nearest to each 1 / fps seconds, the nearest one.
        width: of the frames in pixels; the first video's aspect ratio decides the height of all.
        fast: of the frames nearest to each 1 / fps seconds, rather take one that others are decoded from anyway: at
            most half of 1 / fps off, and the decoder can pass over the rest. Of H.264 alone; pixels are the same.
        min_difference: frames that differ by less from the last one taken of their video are left out; the largest
            mean absolute difference, from 0 to 255, of any part of about 8 x 8 of the small pixels. 0 keeps all.
        max_pixels: refuse videos whose frames have more pixels.
        max_seconds: refuse longer videos.

    Raises:
        SparsightError: a value that can't be.
    """

    fps: float = 10.0
    width: int = 100
    fast: bool = True
    min_difference: float = 4.0
    max_pixels: int = MAX_PIXELS
    max_seconds: float = MAX_SECONDS

    def __post_init__(self) -> None:
        ranges = {
            "fps": (0.001, 100.0),
            "width": (8, 1024),
            "min_difference": (0.0, 255.0),
            "max_pixels": (1, 2**28),
            "max_seconds": (1.0, 1e6),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SparsightError(f"{name} is {value:g}; expected {least:g} to {most:g}.")
