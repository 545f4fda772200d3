"""Which frames of a video will be taken, found from its packets before anything is decoded."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sparsight.data.video.opening import VideoError, open_video
from sparsight.data.video.sampling import Sampling

_SLICES = range(1, 6)
"""H.264's NAL units that hold a part of a picture."""
_LOOKED_AT = 4096
"""Bytes of a packet; parameters and notes before its first slice are shorter."""


@dataclass(frozen=True, kw_only=True)
class Packets:
    """A video's packets, in the order in which their frames are shown.

    Attributes:
        pts: int64, N: time stamps in `seconds_per_tick`.
        is_key: bool, N: whether decoding can start there.
        is_reference: bool, N: whether other frames are decoded from it, or that isn't known.
        seconds_per_tick: of the time stamps.
        lost: frames that the file announces and doesn't hold.
    """

    pts: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_reference: NDArray[np.bool_]
    seconds_per_tick: float
    lost: int

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds from the first frame, N."""
        times: NDArray[np.float64] = (self.pts - self.pts[0]) * self.seconds_per_tick
        return times

    def time_of(self, pts: int) -> float:
        """Seconds from the first frame."""
        return float((pts - int(self.pts[0])) * self.seconds_per_tick)


def read_packets(path: Path, sampling: Sampling) -> Packets:
    """Read a video's packets through without decoding them.

    Raises:
        VideoError: there are none, they have no time stamps, or the video is too long.
    """
    with open_video(path, sampling.max_pixels) as (container, stream):
        return _read(container, stream, sampling.max_seconds)


def _read(container: InputContainer, stream: VideoStream, max_seconds: float) -> Packets:
    if stream.time_base is None:
        raise VideoError("no time stamps")
    context, seconds = stream.codec_context, float(stream.time_base)
    is_h264, prefix = context.name == "h264", length_bytes(context.extradata)
    pts, is_key, is_reference = array("q"), bytearray(), bytearray()
    try:
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                raise VideoError("no time stamps")
            if pts and abs(packet.pts - pts[0]) * seconds > max_seconds:
                raise VideoError("too long (seconds)")
            pts.append(packet.pts)
            is_key.append(packet.is_keyframe)
            is_reference.append(not is_h264 or is_h264_reference(memoryview(packet)[:_LOOKED_AT], prefix))
    except FFmpegError:  # whatever came before is there
        pass
    if not pts:
        raise VideoError("no frames")
    shown, first = np.unique(np.asarray(pts, np.int64), return_index=True)
    return Packets(
        pts=shown,
        is_key=np.frombuffer(is_key, np.bool_)[first],
        is_reference=np.frombuffer(is_reference, np.bool_)[first],
        seconds_per_tick=seconds,
        lost=max(0, stream.frames - len(pts)),
    )


def length_bytes(extradata: bytes | None) -> int:
    """How many bytes of length are before each NAL unit of H.264 (ISO/IEC 14496-15, 5.3.3.1); 0 for start codes."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else 0


def is_h264_reference(content: memoryview, prefix: int) -> bool:
    """Whether other frames are decoded from a packet's: nal_ref_idc of its first slice (ITU-T H.264, 7.4.1).

    Args:
        content: the packet, or its beginning; where no slice is found, it counts as a reference.
        prefix: as `length_bytes` gives it.
    """
    headers = _after_lengths(content, prefix) if prefix else _after_start_codes(bytes(content))
    slices = (header for header in headers if header & 31 in _SLICES)
    return next(slices, 0xFF) >> 5 & 3 != 0


def _after_lengths(content: memoryview, prefix: int) -> Iterator[int]:
    place = 0
    while place + prefix < len(content):
        yield content[place + prefix]
        place += prefix + int.from_bytes(content[place : place + prefix], "big")


def _after_start_codes(content: bytes) -> Iterator[int]:
    place = content.find(b"\0\0\1")
    while 0 <= place < len(content) - 3:
        yield content[place + 3]
        place = content.find(b"\0\0\1", place + 3)


def frames_to_take(packets: Packets, sampling: Sampling) -> NDArray[np.int64]:
    """Choose frames at a regular pace, also where frames come at irregular times.

    Each frame belongs to the nearest multiple of 1 / fps, and of those that belong to one, the nearest is taken, the
    earlier one of two; no two within a millisecond. A frame that is shown for long is taken once.

    Returns:
        int64: their time stamps, ascending.
    """
    times = packets.times
    beats = np.floor(times * sampling.fps + 0.5)
    # Rounded, so that of two frames that are as near the earlier one is taken whatever the last bit of their times.
    distances = np.abs(times * sampling.fps - beats).round(6)
    dear = ~packets.is_reference if sampling.fast else np.zeros(len(times), np.bool_)
    order = np.lexsort((times, distances, dear, beats))
    first = np.r_[True, np.diff(beats[order]) > 0]
    taken = np.sort(order[first])
    apart = np.r_[True, np.diff(times[taken].round(3)) > 0]
    found: NDArray[np.int64] = packets.pts[taken[apart]]
    return found
