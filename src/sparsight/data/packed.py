"""Packed image sets: memory-mapped uint8 shards with an index, read without copying what isn't asked for."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.artefact import Manifest, read_manifest
from sparsight.data.origin import Origin, read_origin
from sparsight.errors import SparsightError

SHARD_BYTES = 64 * 2**20
"""A killed run loses the shards it was filling, so they are small."""
SHARD_ROWS = 4096
"""Images in a shard at most, for the same reason where images are tiny."""
INDEX_COLUMNS = ("id", "shard", "row", "split", "label")
FRAME_COLUMNS = ("video", "time")
"""What the index says besides where images are frames of videos."""


def shard_name(number: int) -> str:
    """Name of a shard's file inside an images folder."""
    return f"images-{number:05d}.npy"


class PackedImages:
    """An images artefact, opened for reading.

    A position is a row of `index`. Oversampling repeats rows of `index` that point at the same pixels.

    Args:
        folder: an images artefact, as data_prep writes it.

    Attributes:
        index: one row per image: id, shard (int), row (int), split (train/valid/test), label (a label path or
            several, as `join_paths` writes them, empty where there is none). Where there are frames of videos also
            video (its name, empty for a photo) and time (float, seconds from the video's start; nan for a photo).
        size: height and width in pixels.
        manifest: counts, and the parameters that made it.

    Raises:
        SparsightError: the folder isn't a whole images artefact, or a shard disagrees with the index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder, "images")
        self.index: pd.DataFrame = pd.read_parquet(folder / "index.parquet")
        self._shards = [
            np.load(folder / shard_name(number), mmap_mode="r", allow_pickle=False)
            for number in range(self.manifest.counts["shards"])
        ]
        self._shard_of = self.index["shard"].to_numpy(np.int64)
        self._row_of = self.index["row"].to_numpy(np.int64)
        self._check()
        height, width = self._shards[0].shape[1:3] if self._shards else (0, 0)
        self.size: tuple[int, int] = (height, width)

    @property
    def origin(self) -> Origin:
        """The dataset that the images are from."""
        return read_origin(self.folder, self.manifest)

    @property
    def has_frames(self) -> bool:
        """Whether the index says which video each image is of, and when."""
        return set(FRAME_COLUMNS) <= set(self.index.columns)

    def _check(self) -> None:
        self._check_frames()
        for number, shard in enumerate(self._shards):
            if shard.dtype != np.uint8 or shard.ndim != 4 or shard.shape[3] != 3:
                raise SparsightError(
                    f"{self.folder / shard_name(number)} is {shard.dtype} {shard.shape}; expected uint8 N x H x W x 3."
                )
        lengths = np.array([len(shard) for shard in self._shards], np.int64)
        known = (self._shard_of >= 0) & (self._shard_of < len(lengths)) & (self._row_of >= 0)
        known[known] = self._row_of[known] < lengths[self._shard_of[known]]
        if not known.all():
            shard, row = self._shard_of[~known][0], self._row_of[~known][0]
            raise SparsightError(f"{self.folder}: index.parquet names row {row} of shard {shard}; it isn't there.")

    def _check_frames(self) -> None:
        here = [name for name in FRAME_COLUMNS if name in self.index.columns]
        if not here:
            return
        if len(here) < len(FRAME_COLUMNS):
            raise SparsightError(
                f"{self.folder}: index.parquet has a column {here[0]}; expected video and time, or none."
            )
        if self.index["time"].dtype != np.float64 or self.index["video"].isna().any():
            raise SparsightError(
                f"{self.folder}: index.parquet must name a video, or '', and a time in float64 seconds."
            )
        untimed = (self.index["video"] != "") & ~np.isfinite(self.index["time"])
        if untimed.any():
            raise SparsightError(f"{self.folder}: index.parquet says no time of {self.index['id'][untimed].iloc[0]!r}.")

    def __len__(self) -> int:
        return len(self.index)

    def positions(self, split: str) -> NDArray[np.int64]:
        """Positions of the images of one split (`train`, `valid` or `test`), in index order."""
        return np.flatnonzero(self.index["split"].to_numpy() == split)

    def gather(self, positions: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Copy the pixels of some images into one array, uint8, N x H x W x 3, in the order asked for."""
        images = np.empty((len(positions), *self.size, 3), np.uint8)
        shards = self._shard_of[positions]
        for number in np.unique(shards):
            here = np.flatnonzero(shards == number)
            images[here] = self._shards[number][self._row_of[positions[here]]]
        return images
