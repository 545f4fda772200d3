"""Makes small videos for tests, and decodes them in the most straightforward way."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

TICKS = 1000
"""Time stamps a second."""


def scenes(count: int, size: tuple[int, int] = (96, 54), seed: int = 0) -> list[NDArray[np.uint8]]:
    """Pictures, H x W x 3, in which a bright square moves over a coloured ground that slowly changes."""
    width, height = size
    ground = np.random.default_rng(seed).integers(40, 160, 3)
    pictures = []
    for number in range(count):
        picture = np.empty((height, width, 3), np.uint8)
        picture[:] = (ground + np.array([number % 90, 0, -number % 40])).clip(0, 255)
        left, top = 3 * number % (width - 24), 2 * number % (height - 16)
        picture[top : top + 16, left : left + 24] = 255
        pictures.append(picture)
    return pictures


def write_film(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 30,
    times: Sequence[float] | None = None,
    options: Mapping[str, str] | None = None,
    rotation: float | None = None,
    mirrored: bool = False,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Encode pictures.

    Args:
        path: the file; its ending decides about the container.
        pictures: uint8, H x W x 3, all of one size.
        codec: FFmpeg's name of an encoder.
        pixels: FFmpeg's name of a pixel format.
        rate: frames a second.
        times: seconds of each, in place of the rate.
        options: of the encoder.
        rotation: degrees by which players shall turn the pictures, anticlockwise.
        mirrored: whether they shall mirror it as well.
        pixel_aspect: width of a pixel by its height.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"threads": "1", **(options or {})})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, TICKS)
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pixels)
            frame.pts = number if times is None else round(times[number] * TICKS)
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for number in range(43):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    """Decode everything: seconds from the first frame, and RGB pixels as they are stored."""
    with av.open(str(path)) as container:
        frames = [(frame.pts, frame.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    first = min(pts for pts, _, _ in frames)
    return sorted(((float((pts - first) * base), pixels) for pts, base, pixels in frames), key=lambda each: each[0])


def nearest(times: Sequence[float], fps: float) -> list[float]:
    """The frames to take, found one by one: of those nearest to each beat the nearest, the earlier one of two."""
    best: dict[int, tuple[float, float]] = {}
    for time in times:
        beat = int(np.floor(time * fps + 0.5))
        candidate = (round(abs(time * fps - beat), 6), time)
        best[beat] = min(best.get(beat, candidate), candidate)
    return sorted(time for _, time in best.values())
