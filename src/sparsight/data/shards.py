"""Shards being written: a row for every image of a slice first, closed up over the failed ones at the end."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsight.data.artefact import write_text
from sparsight.errors import SparsightError

_BLOCK_ROWS = 64


def create_shard(path: Path, rows: int, size: int) -> None:
    """Make a .npy file of zeros, uint8, rows x size x size x 3, without holding it in memory."""
    shape = (rows, size, size, 3)
    shard = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)  # type: ignore[no-untyped-call]
    shard.flush()


def write_row(path: Path, rows: int, row: int, pixels: NDArray[np.uint8]) -> None:
    """Write one image into its row of a shard; several processes may do so at once, each to rows of its own.

    A plain write, not a memory map: mapped pages would count as this process's memory.
    """
    content = memoryview(pixels.tobytes())
    file = os.open(path, os.O_WRONLY)
    try:
        start = os.fstat(file).st_size - (rows - row) * len(content)
        while content:
            written = os.pwrite(file, content, start)
            content, start = content[written:], start + written
    finally:
        os.close(file)


def close_up(path: Path, rows: int, failed: Mapping[int, str]) -> None:
    """Take the failed rows out of a shard of `rows` rows: whole or not at all, and once only."""
    if not failed:
        return
    if is_closed_up(path, rows):
        return
    shard = np.load(path, mmap_mode="r", allow_pickle=False)
    kept = np.array([row for row in range(rows) if row not in failed], np.int64)
    draft = path.with_name(f".{path.name}.draft")
    create_shard(draft, len(kept), shard.shape[1])
    closed = np.load(draft, mmap_mode="r+", allow_pickle=False)
    for start in range(0, len(kept), _BLOCK_ROWS):
        closed[start : start + _BLOCK_ROWS] = shard[kept[start : start + _BLOCK_ROWS]]
    closed.flush()
    draft.replace(path)


def is_closed_up(path: Path, rows: int) -> bool:
    """Tell whether failed rows were taken out of a shard of `rows` rows."""
    return len(np.load(path, mmap_mode="r", allow_pickle=False)) != rows


def commit_shard(shard: Path, record: Path, failed: Mapping[int, str]) -> None:
    """Record that every row of a shard was tried, once its pixels are on disk.

    Args:
        shard: the .npy file.
        record: the file that says so.
        failed: row -> reason of those that gave no image.
    """
    with shard.open("rb+") as file:
        os.fsync(file.fileno())
    write_text(record, json.dumps({str(row): failed[row] for row in sorted(failed)}, indent=0))


def read_record(record: Path) -> dict[int, str] | None:
    """Read the failed rows of a committed shard, row -> reason; None where it isn't committed."""
    if not record.is_file():
        return None
    try:
        return {int(row): str(reason) for row, reason in json.loads(record.read_text(encoding="utf-8")).items()}
    except ValueError as error:
        raise SparsightError(
            f"{record} can't be read: {error}.", hint="Remove it: its images are fetched anew."
        ) from error
