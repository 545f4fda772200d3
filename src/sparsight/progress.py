"""Progress of a long loop as plain lines that a terminal, a log file and Azure ML all show well."""

import sys
import time
from typing import TextIO


def duration(seconds: float) -> str:
    """Write a time span for people: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Counts items and says how many a second and how long it will still take.

    Args:
        title: what is being done, first on each line.
        total: number of items to do; `done` counts up to it.
        unit: the items' name in the plural.
        every: least number of seconds between two lines.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        every: float = 2.0,
        stream: TextIO | None = None,
    ) -> None:
        self.title, self.total, self.unit, self.every = title, total, unit, every
        self.done = self._first = done
        self._stream = stream or sys.stdout
        self._started = self._written = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items; write a line when one is due."""
        self.done += count
        now = time.monotonic()
        if now - self._written >= self.every:
            self._written = now
            self._write(now, note)

    def finish(self, note: str = "") -> None:
        """Write the last line, whatever the time."""
        self._write(time.monotonic(), note)

    def _write(self, now: float, note: str) -> None:
        seconds = max(now - self._started, 1e-9)
        rate = (self.done - self._first) / seconds
        parts = [f"{self.title} {self.done:,}/{self.total:,} {self.unit}", f"{rate:,.1f} {self.unit}/s"]
        if self.done >= self.total:
            parts.append(f"took {duration(seconds)}")
        elif rate:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        if note:
            parts.append(note)
        print(" · ".join(parts), file=self._stream, flush=True)
