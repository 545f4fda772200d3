"""How far the processes that fetch images together are."""

import time

from sparsight.data.share import Share
from sparsight.progress import Progress

_MEET_SECONDS = 5.0
"""So often processes meet while they fetch. Only then they notice that one was lost, and its replacement is waiting."""


class Tally:
    """Counts images in all processes, and says so.

    They meet every few seconds; in between, each knows what the others told it last.

    Args:
        share: the place of this process.
        images: number of images in all.
        left: images that this process has left to fetch.
    """

    def __init__(self, share: Share, images: int, left: int) -> None:
        self._share, self._left, self._failures = share, left, 0
        self._told = self._share.exchange({"left": left, "failures": 0})
        self._met = time.monotonic()
        several = f" in {share.size} processes" if share.size > 1 else ""
        self._progress = Progress(f"Packing images{several}", images, "images", done=images - self.left)

    @property
    def left(self) -> int:
        """Images left to all processes."""
        return self._left + sum(each["left"] for each in self._others())

    @property
    def note(self) -> str:
        """What to say of failures."""
        failures = self._failures + sum(each["failures"] for each in self._others())
        return f"{failures:,} failed" if failures else ""

    def count(self, *, failed: bool) -> None:
        """Count an image that was tried."""
        self._left -= 1
        self._failures += failed
        self._progress.advance(note=self.note)

    def meet(self) -> None:
        """Tell the others how far this process is, and learn how far they are."""
        before = sum(each["left"] for each in self._others())
        self._told = self._share.exchange({"left": self._left, "failures": self._failures})
        self._met = time.monotonic()
        self._progress.advance(before - sum(each["left"] for each in self._others()), note=self.note)

    def meet_when_due(self) -> None:
        """Meet, unless that was a moment ago."""
        if self._share.size > 1 and time.monotonic() - self._met >= _MEET_SECONDS:
            self.meet()

    def finish(self) -> None:
        """Wait until all processes have nothing left."""
        while any(each["left"] for each in self._told):
            self.meet()
        self._progress.finish(note=self.note)

    def _others(self) -> list[dict[str, int]]:
        return [each for rank, each in enumerate(self._told) if rank != self._share.rank]
