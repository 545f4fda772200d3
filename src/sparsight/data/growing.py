"""A .npy file that is written from front to back before anybody knows how many rows it will have."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """Rows of one shape, appended; on leaving the block the file's header says how many there are.

    A plain write, not a memory map: mapped pages would count as this process's memory, and not every folder can be
    mapped.

    Args:
        path: the file.
        row: shape of a row.
        dtype: of the numbers.

    Attributes:
        rows: how many there are.
    """

    def __init__(self, path: Path, row: Sequence[int], dtype: DTypeLike) -> None:
        self.path, self.row, self.dtype = path, tuple(row), np.dtype(dtype).newbyteorder("<")
        self.rows = 0

    def __enter__(self) -> Self:
        self._file: IO[bytes] = self.path.open("wb")
        self._write_header()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()

    def append(self, rows: NDArray[np.generic]) -> None:
        """Write some rows, N x row."""
        self._file.write(rows.astype(self.dtype).tobytes())
        self.rows += len(rows)

    def _write_header(self) -> None:
        # NumPy leaves room for any number of rows, so that the header is as long for each.
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.row)}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]
