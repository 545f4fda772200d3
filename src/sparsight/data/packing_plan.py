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
from sparsight.data.shards import close_up, commit_shard, create_shard, is_closed_up, read_record
from sparsight.data.share import Share
from sparsight.errors import SparsightError

WORK = ".work"
"""Where a draft keeps the records of finished shards."""


class Plan:
    """Which image goes where: distinct images in the dataset's order, cut into slices, one shard each.

    Args:
        dataset: see `pack_images`.
        folder: the draft of an images artefact.
        packing: what becomes of each image.

    Attributes:
        images: the distinct images: id, uri, file_hash.
        failed: shard -> row -> reason, of the shards that are committed.
        own: the shards that this process fills.
        codes: for each row of the dataset, the position of its image among the distinct ones.
    """

    def __init__(self, dataset: pd.DataFrame, folder: Path, packing: Packing) -> None:
        self.folder, self.packing, self.dataset = folder, packing, dataset
        self.codes, _ = pd.factorize(dataset["id"])
        self.images = _distinct(dataset)
        self.shard_rows = min(SHARD_ROWS, max(1, SHARD_BYTES // (packing.size**2 * 3)))
        self.shards = -(-len(self.images) // self.shard_rows)
        self.own = list(range(self.shards))
        self.work = folder / WORK
        self.work.mkdir(exist_ok=True)
        self.index_path = folder / "index.parquet"
        self.failures_path = folder / "failures.csv"
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

    def divide(self, share: Share) -> None:
        """Agree with the other processes on which shards are whose.

        A finished shard belongs to one that has it in its folder: they may share a folder or have one each, and needn't
        know. The others are dealt out so that all have about as many images left to fetch.
        """
        for shard in range(self.shards):
            # Another process may fill it now: half-made here, it mustn't stand beside that one's in the end.
            if shard not in self.failed:
                self.shard_path(shard).unlink(missing_ok=True)
        holders: dict[int, dict[int, int]] = {}
        for rank, finished in enumerate(share.exchange({shard: len(failed) for shard, failed in self.failed.items()})):
            for shard, failures in finished.items():
                holders.setdefault(int(shard), {})[rank] = failures
        load = [0] * share.size
        self.own = []
        for shard in range(self.shards):
            left = holders.get(shard) or dict.fromkeys(range(share.size), self.rows(shard))
            owner = min(left, key=load.__getitem__)
            load[owner] += left[owner]
            if owner == share.rank:
                self.own.append(shard)

    def learn(self, share: Share) -> None:
        """Exchange which rows failed in whose shards, once all are committed."""
        told = share.exchange({shard: self.failed[shard] for shard in self.own})
        self.failed = {
            int(shard): {int(row): reason for row, reason in failed.items()}
            for shards in told
            for shard, failed in shards.items()
        }

    def todo(self, shard: int) -> list[int]:
        """Rows of a shard that no run has filled yet; those taken out of it already are not filled any more."""
        failed = self.failed.get(shard)
        if failed is None:
            return list(range(self.rows(shard)))
        return [] if failed and is_closed_up(self.shard_path(shard), self.rows(shard)) else sorted(failed)

    def jobs(self) -> Iterator[Job]:
        """What this process has left to fetch, in order; a shard's file is made when its first job is asked for."""
        uris, hashes = self.images["uri"].tolist(), self.images["file_hash"].tolist()
        for shard in self.own:
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
        """Take failed rows out of this process's shards."""
        for shard in self.own:
            close_up(self.shard_path(shard), self.rows(shard), self.failed[shard])

    def is_indexed(self) -> bool:
        """Tell whether all that readers need is in this folder, so that only the manifest is missing."""
        return self.index_path.exists() and all(self.shard_path(shard).exists() for shard in range(self.shards))

    def write_index(self) -> None:
        """Write the index, once all shards are closed up."""
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
