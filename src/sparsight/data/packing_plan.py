"""Which image goes to which row of which shard, what is done of it, and the index that comes out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparsight.data.fetching import Job, Packing
from sparsight.data.packed import SHARD_BYTES, SHARD_ROWS, shard_name
from sparsight.data.shards import close_up, commit_shard, create_shard, read_record
from sparsight.errors import SparsightError


class Plan:
    """Which image goes where: distinct images in the dataset's order, cut into slices, one shard each.

    Args:
        dataset: see `pack_images`.
        folder: the draft of an images artefact.
        packing: what becomes of each image.

    Attributes:
        images: the distinct images: id, uri, file_hash.
        failed: shard -> row -> reason, of the shards that are committed.
        codes: for each row of the dataset, the position of its image among the distinct ones.
    """

    def __init__(self, dataset: pd.DataFrame, folder: Path, packing: Packing) -> None:
        self.folder, self.packing, self.dataset = folder, packing, dataset
        self.codes, _ = pd.factorize(dataset["id"])
        self.images = _distinct(dataset)
        self.shard_rows = min(SHARD_ROWS, max(1, SHARD_BYTES // (packing.size**2 * 3)))
        self.shards = -(-len(self.images) // self.shard_rows)
        self.work = folder / ".work"
        self.work.mkdir(exist_ok=True)
        self.index_path = folder / "index.parquet"
        self.failures_path = folder / "failures.csv"
        self.finishing_path = self.work / "finishing"
        records = {shard: read_record(self.record_path(shard)) for shard in range(self.shards)}
        self.failed = {shard: record for shard, record in records.items() if record is not None}

    def shard_path(self, shard: int) -> Path:
        """File of a shard."""
        return self.folder / shard_name(shard)

    def record_path(self, shard: int) -> Path:
        """File that says that a shard is finished."""
        return self.work / f"{shard:05d}.json"

    def rows(self, shard: int) -> int:
        """Number of images in a shard's slice, failed ones included."""
        return min(self.shard_rows, len(self.images) - shard * self.shard_rows)

    def todo(self, shard: int) -> list[int]:
        """Rows of a shard that no run has filled yet."""
        return sorted(self.failed[shard]) if shard in self.failed else list(range(self.rows(shard)))

    def jobs(self) -> Iterator[Job]:
        """What is left to fetch, in order; a shard's file is made when its first job is asked for."""
        uris, hashes = self.images["uri"].tolist(), self.images["file_hash"].tolist()
        for shard in range(self.shards):
            path, rows = self.shard_path(shard), self.rows(shard)
            if shard not in self.failed:
                create_shard(path, rows, self.packing.size)
            for row in self.todo(shard):
                image = shard * self.shard_rows + row
                yield Job(image, uris[image], hashes[image], path, rows, row)

    def commit(self, shard: int, failed: dict[int, str]) -> None:
        """Record that every image of a shard was tried; `failed` is row -> reason."""
        commit_shard(self.shard_path(shard), self.record_path(shard), failed)
        self.failed[shard] = failed

    def failures(self) -> pd.DataFrame:
        """The images left out, in the dataset's order: id, uri, reason."""
        reasons = {
            shard * self.shard_rows + row: reason
            for shard, rows in sorted(self.failed.items())
            for row, reason in sorted(rows.items())
        }
        left_out = self.images.iloc[list(reasons)][["id", "uri"]]
        return left_out.assign(reason=list(reasons.values()))

    def close_up(self) -> None:
        """Take failed rows out of the shards and write the index, the last file to appear."""
        for shard, failed in sorted(self.failed.items()):
            close_up(self.shard_path(shard), self.rows(shard), failed)
        draft = self.work / "index.parquet"
        pq.write_table(self._index(), draft, compression="zstd")
        draft.replace(self.index_path)

    def _index(self) -> pa.Table:
        position = np.arange(len(self.images))
        shard, kept = position // self.shard_rows, np.ones(len(self.images), bool)
        for number, failed in self.failed.items():
            kept[[number * self.shard_rows + row for row in failed]] = False
        row = _counted_within(shard, kept)
        here = kept[self.codes]
        codes, rows = self.codes[here], self.dataset[here]
        return pa.table(
            {
                "id": pa.array(rows["id"], pa.string()),
                "shard": pa.array(shard[codes], pa.int32()),
                "row": pa.array(row[codes], pa.int32()),
                "split": pa.array(rows["split"], pa.string()),
                "label": pa.array(rows["label"], pa.string()),
            }
        )

    def counts(self) -> dict[str, int]:
        """Count what the finished folder holds."""
        index = pq.read_table(self.index_path, columns=["id", "split"]).to_pandas()
        images = int(index["id"].nunique())
        splits = {split: int((index["split"] == split).sum()) for split in ("train", "valid", "test")}
        return {
            "images": images,
            "rows": len(index),
            "shards": self.shards,
            "failures": len(self.images) - images,
            **splits,
        }


def _distinct(dataset: pd.DataFrame) -> pd.DataFrame:
    distinct = dataset[["id", "uri", "file_hash"]].drop_duplicates()
    twice = distinct["id"][distinct["id"].duplicated()]
    if len(twice):
        raise SparsightError(f"The dataset gives id {twice.iloc[0]!r} more than one uri or file_hash.")
    if distinct.empty:
        raise SparsightError("The dataset has no images.", hint="Loosen connect_db's filters.")
    return distinct.reset_index(drop=True)


def _counted_within(groups: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the kept ones within each group, from 0."""
    running = np.cumsum(kept)
    first = np.searchsorted(groups, groups)
    return running - running[first] + kept[first] - 1
