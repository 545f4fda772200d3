"""Frames of videos as images to learn from: two views from near frames, batches of frames that are far apart."""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.data.packed import FRAME_COLUMNS, PackedImages
from sparsight.errors import SparsightError


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Gaps in seconds."""

    frame_gap_seconds: float = 0.0
    """Every second view of a frame is of another one of its video, at most this far; 0: of the same."""
    batch_gap_seconds: float = 0.0
    """Frames of one video in a batch are at least this far apart, where that can be."""

    @property
    def wanted(self) -> bool:
        """Whether frames are told from photos at all."""
        return self.frame_gap_seconds != 0 or self.batch_gap_seconds != 0


class Frames:
    """Tells which frames go together, and which stay apart. An image that is of no video goes with itself alone.

    Args:
        images: packed images whose index says video and time.
        positions: of those to train on.
        options: the gaps.

    Raises:
        SparsightError: a gap below 0, or an index that says nothing of videos.
    """

    def __init__(self, images: PackedImages, positions: NDArray[np.int64], options: FrameOptions) -> None:
        for name, gap in vars(options).items():
            if gap < 0:
                raise SparsightError(f"{name} is {gap:g}; expected 0 or more.")
        if not images.has_frames:
            raise SparsightError(
                f"{images.folder} holds photos: its index has no columns {' and '.join(FRAME_COLUMNS)}.",
                hint="Set frame_gap_seconds and batch_gap_seconds to 0, or give frames of videos.",
            )
        self.options = options
        names = images.index["video"].to_numpy(str)
        self._video: NDArray[np.int64] = np.unique(names, return_inverse=True)[1].ravel()
        self._video[names == ""] = -1
        self._time = images.index["time"].to_numpy(np.float64)
        self._of = self._sorted_by_video(positions)
        self._place = np.zeros(len(images), np.int64)
        for frames in self._of.values():
            self._place[frames] = np.arange(len(frames))

    @property
    def pairs(self) -> bool:
        """Whether every second view is of another frame."""
        return self.options.frame_gap_seconds > 0

    def partners(self, positions: NDArray[np.int64], generator: torch.Generator) -> NDArray[np.int64]:
        """Draw another frame for each of some frames, each near one as likely; the same one where there is no other.

        Args:
            positions: of frames to train on.
            generator: a CPU generator; it moves on.
        """
        drawn = torch.rand(len(positions), generator=generator, dtype=torch.float64).numpy()
        found = positions.copy()
        for video in np.unique(self._video[positions]):
            if video == -1:
                continue
            here = np.flatnonzero(self._video[positions] == video)
            found[here] = self._near(video, positions[here], drawn[here])
        return found

    def _near(self, video: int, positions: NDArray[np.int64], drawn: NDArray[np.float64]) -> NDArray[np.int64]:
        """Take one of the other frames within the gap of each, by numbers from 0 to 1."""
        frames, gap = self._of[video], self.options.frame_gap_seconds
        times = self._time[frames]
        first = np.searchsorted(times, self._time[positions] - gap, "left")
        last = np.searchsorted(times, self._time[positions] + gap, "right")
        itself = self._place[positions]
        chosen = first + (drawn * (last - first - 1)).astype(np.int64)
        chosen += chosen >= itself
        return np.where(last - first > 1, frames[np.minimum(chosen, len(frames) - 1)], positions)

    def _sorted_by_video(self, positions: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
        """Positions of each video, by time."""
        order = positions[np.lexsort((self._time[positions], self._video[positions]))]
        videos, starts = np.unique(self._video[order], return_index=True)
        return dict(zip(videos.tolist(), np.split(order, starts[1:]), strict=True))

    def batches(
        self, positions: NDArray[np.int64], batch_size: int, generator: torch.Generator
    ) -> Iterator[NDArray[np.int64]]:
        """Deal positions out in a random order, frames of one video in a batch at least the gap apart where possible.

        Greedy: a batch takes, in the random order of what is left, whatever keeps the gap to what it has already;
        where nothing more does, it is filled up in that order all the same. What doesn't fill a last batch sits this
        epoch out.
        """
        order = positions[torch.randperm(len(positions), generator=generator).numpy()]
        return spaced_batches(order, self._video[order], self._time[order], batch_size, self.options.batch_gap_seconds)


def spaced_batches(
    order: NDArray[np.int64],
    videos: NDArray[np.int64],
    times: NDArray[np.float64],
    batch_size: int,
    gap: float,
) -> Iterator[NDArray[np.int64]]:
    """Cut frames into batches; see `Frames.batches`.

    Args:
        order: N frames in the order to take them in.
        videos: N: the number of each one's video, -1 for what is of none.
        times: N: seconds.
        batch_size: frames in a batch.
        gap: seconds.

    Yields:
        `batch_size` frames each.
    """
    left = deque(range(len(order)))
    while len(left) >= batch_size:
        batch: list[int] = []
        waiting: deque[int] = deque()
        taken: defaultdict[int, list[float]] = defaultdict(list)
        while left and len(batch) < batch_size:
            frame = left.popleft()
            here, time = taken[videos[frame]], times[frame]
            if videos[frame] != -1 and not _keeps(gap, here, time):
                waiting.append(frame)
                continue
            insort(here, time)
            batch.append(frame)
        batch += [waiting.popleft() for _ in range(batch_size - len(batch))]
        left.extendleft(reversed(waiting))
        yield order[batch]


def _keeps(gap: float, taken: list[float], time: float) -> bool:
    """Whether a time is at least the gap from all of some others, which are sorted."""
    place = bisect_left(taken, time)
    return all(abs(time - other) >= gap for other in taken[max(0, place - 1) : place + 1])
