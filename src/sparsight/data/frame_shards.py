"""Small frames of videos as a packed image set, written while they come."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sparsight.data.growing import GrowingArray
from sparsight.data.packed import SHARD_BYTES, SHARD_ROWS, shard_name


class FrameShards:
    """Fills shards one after the other, in an unfinished images artefact.

    Args:
        folder: of the artefact.

    Attributes:
        shards: how many were begun.
        room: frames that each of them holds, but for the last one; 0 before the first frame.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = 0
        self._open: GrowingArray | None = None
        self.room = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.__exit__(kind, error, trace)

    def append(self, pixels: NDArray[np.uint8]) -> None:
        """Write some frames, uint8 N x H x W x 3, all of one size."""
        while len(pixels):
            shard = self._shard(pixels)
            part = pixels[: self.room - shard.rows]
            shard.append(part)
            pixels = pixels[len(part) :]

    def _shard(self, pixels: NDArray[np.uint8]) -> GrowingArray:
        """The shard that takes the next frame."""
        if self._open is None or self._open.rows == self.room:
            if self._open is not None:
                self._open.__exit__(None, None, None)
            self.room = min(SHARD_ROWS, max(1, SHARD_BYTES // pixels[0].size))
            self._open = GrowingArray(self.folder / shard_name(self.shards), pixels.shape[1:], np.uint8).__enter__()
            self.shards += 1
        return self._open
