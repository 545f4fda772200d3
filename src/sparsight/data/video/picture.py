"""A decoded frame as people see it: square pixels, turned upright, RGB, at the size asked for."""

from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

_MATRIX = np.dtype("<i4")


class Turn(NamedTuple):
    """How stored pixels are turned to be seen: rows and columns change places first, then they are mirrored."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False


def turn_of(frame: VideoFrame) -> Turn:
    """Read a frame's display matrix, to the nearest quarter turn; without one nothing is turned."""
    data: Any = frame.side_data  # PyAV's types know of motion vectors alone
    if Type.DISPLAYMATRIX not in data:
        return Turn()
    a, b, _, c, d = np.frombuffer(bytes(data[Type.DISPLAYMATRIX]), _MATRIX)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


def turned(pixels: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """Turn H x W x 3 pixels."""
    pixels = pixels.swapaxes(0, 1) if turn.transpose else pixels
    pixels = pixels[:, ::-1] if turn.mirror_x else pixels
    return np.ascontiguousarray(pixels[::-1] if turn.mirror_y else pixels)


def pixel_aspect_of(stream: VideoStream) -> float:
    """Width of a stored pixel by its height; what is beyond 1 to 4 either way is a mistake, and counts as 1."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.25 <= aspect <= 4 else 1.0


def shown_size(frame: VideoFrame, pixel_aspect: float) -> tuple[int, int]:
    """Find width and height of a frame as it is seen, in square pixels as high as the stored ones.

    Args:
        frame: as decoded.
        pixel_aspect: see `pixel_aspect_of`.
    """
    width, height = max(1, round(frame.width * pixel_aspect)), frame.height
    return (height, width) if turn_of(frame).transpose else (width, height)


class Scaler:
    """Turns decoded frames into RGB pixels, straight from whatever format they are stored in."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        """Scale a frame and turn it upright.

        Args:
            frame: as decoded.
            width: of the result.
            height: of the result.

        Returns:
            uint8, height x width x 3.
        """
        turn = turn_of(frame)
        stored = (height, width) if turn.transpose else (width, height)
        shrinks = stored[0] <= frame.width and stored[1] <= frame.height
        small = self._reformatter.reformat(
            frame,
            *stored,
            format="rgb24",
            # The mean of all pixels that a small one covers.
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        )
        return turned(np.asarray(small.to_ndarray(), np.uint8), turn)


def fitted(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Put pixels into the middle of a black picture of this size, if they aren't of it."""
    if pixels.shape[:2] == (height, width):
        return pixels
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas
