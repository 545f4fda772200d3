"""Videos as one stream of small frames: the wanted ones, upright, of one size, near-duplicates left out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from sparsight.data.fetching import cores
from sparsight.data.video.decoding import Decoder
from sparsight.data.video.novelty import Novelty
from sparsight.data.video.opening import VideoError, open_video
from sparsight.data.video.picture import Scaler, fitted, pixel_aspect_of, shown_size
from sparsight.data.video.sampling import Sampling
from sparsight.data.video.schedule import Packets, frames_to_take, read_packets
from sparsight.data.video.sources import Video
from sparsight.errors import SparsightError

_OBLONG = 16
"""Nothing that anybody films is longer by its width; small frames of such a shape could be huge."""


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        video: its name.
        time: seconds from its first frame.
        pixels: uint8, H x W x 3, RGB.
    """

    video: str
    time: float
    pixels: NDArray[np.uint8]

    @property
    def id(self) -> str:
        """Its name and time, as a media fragment: `film.mp4#t=83.400`."""
        return frame_id(self.video, self.time)


def frame_id(video: str, time: float) -> str:
    """Name a frame, as W3C's media fragments do."""
    return f"{video}#t={time:.3f}"


class Failure(NamedTuple):
    """A video that couldn't be read, or not all of it.

    Attributes:
        video: its name.
        reason: why.
        share: of its frames that are missing, from 0 to 1.
    """

    video: str
    reason: str
    share: float


@dataclass
class FrameReader:
    """Reads videos one after the other; never more than a few frames are in memory.

    Args:
        videos: in the order to read them in.
        sampling: which frames, and how small.
        threads: of the decoder; by default one for each core.

    Attributes:
        seconds: of video read so far.
        decoded: frames taken so far, near-duplicates included.
        duplicates: frames left out so far, as they were like the one before.
        failures: what couldn't be read so far.
        size: width and height of all frames; None before the first.
    """

    videos: Sequence[Video]
    sampling: Sampling
    threads: int = field(default_factory=cores)
    seconds: float = field(default=0.0, init=False)
    decoded: int = field(default=0, init=False)
    duplicates: int = field(default=0, init=False)
    failures: list[Failure] = field(default_factory=list, init=False)
    size: tuple[int, int] | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Frame]:
        for video in self.videos:
            try:
                with video.opened() as path:
                    yield from self._frames(video.name, path)
            except VideoError as error:
                self.failures.append(Failure(video.name, error.reason, 1.0))

    def _frames(self, name: str, path: Path) -> Iterator[Frame]:
        packets = read_packets(path, self.sampling)
        wanted = set(frames_to_take(packets, self.sampling).tolist())
        new = Novelty(self.sampling.min_difference)
        come = 0
        with open_video(path, self.sampling.max_pixels) as (container, stream):
            decoder = Decoder(container, stream, self.threads)
            scale, pixel_aspect = Scaler(), pixel_aspect_of(stream)
            for frame in decoder.frames(wanted):
                try:
                    pixels = self._small(scale, frame, pixel_aspect)
                except FFmpegError:  # pixels that can't be converted are missing, too
                    continue
                come += 1
                self.decoded += 1
                if new(pixels):
                    yield Frame(name, packets.time_of(int(frame.pts or 0)), pixels)
                else:
                    self.duplicates += 1
        self.seconds += float(packets.times[-1])
        self._judge(name, packets, len(wanted), come)

    def _small(self, scale: Scaler, frame: VideoFrame, pixel_aspect: float) -> NDArray[np.uint8]:
        width, height = shown_size(frame, pixel_aspect)
        if not 1 / _OBLONG <= width / height <= _OBLONG:
            raise VideoError(f"more than {_OBLONG} times as long as wide")
        if self.size is None:
            self.size = self.sampling.width, max(1, round(height * self.sampling.width / width))
        factor = min(self.size[0] / width, self.size[1] / height)
        inner = (min(self.size[0], max(1, round(width * factor))), min(self.size[1], max(1, round(height * factor))))
        return fitted(scale(frame, *inner), *self.size)

    def _judge(self, name: str, packets: Packets, wanted: int, come: int) -> None:
        """Note what is missing: frames that the file announces and doesn't hold, and those that don't decode."""
        if come == wanted and not packets.lost:
            return
        there = len(packets.pts) / (len(packets.pts) + packets.lost)
        reason = "truncated" if packets.lost else "damaged"
        if not come:
            raise VideoError(f"{reason}: no frame can be decoded")
        share = 1 - there * come / wanted
        if share > 0:
            self.failures.append(Failure(name, f"{reason}: {100 * share:.1f} % of the frames are missing", share))

    def failure_table(self) -> pd.DataFrame:
        """What couldn't be read: columns video, reason, missing (the share of its frames)."""
        rows = [(each.video, each.reason, round(each.share, 6)) for each in self.failures]
        return pd.DataFrame(rows, columns=["video", "reason", "missing"])

    def check(self, max_failures: float, listed: Path | None = None) -> None:
        """Refuse what was read where too much is missing.

        Args:
            max_failures: share of the videos that may be missing, 0 to 1; of a damaged one its missing frames count.
            listed: where the list of failures is, for the message.

        Raises:
            SparsightError: more is missing, or everything.
        """
        missing = sum(each.share for each in self.failures)
        if self.decoded and missing <= max_failures * len(self.videos) + 1e-9:
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(self._reasons()).most_common(5))
        if not self.failures:
            reasons = "they hold no frames"
        raise SparsightError(
            f"{len(self.failures)} of {len(self.videos)} videos failed ({reasons}); max_failures {max_failures:g} "
            f"allows {max_failures * len(self.videos):g}, a damaged one counting by the share of its missing frames."
            + (f" The list is {listed}." if listed else ""),
            hint="Take these videos out or repair them, or raise max_failures to do without what is missing.",
        )

    def _reasons(self) -> list[str]:
        return [f"{each.video}: {each.reason}" if len(self.videos) < 4 else each.reason for each in self.failures]


def read_frames(videos: Sequence[Video], sampling: Sampling, *, max_failures: float = 0.0) -> Iterator[Frame]:
    """Read videos as a stream of small frames; at its end, refuse if too much was missing.

    Args:
        videos: as `find_videos` gives them.
        sampling: which frames, and how small.
        max_failures: see `FrameReader.check`.

    Raises:
        SparsightError: too much is missing.
    """
    reader = FrameReader(videos, sampling)
    yield from reader
    reader.check(max_failures)
