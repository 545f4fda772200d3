"""Embeddings to choose from: read in batches from memory, a memory-mapped file or a GPU, roughly or exactly."""

import warnings
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.errors import SparsightError
from sparsight.models.precision import best_device

METRICS = ("euclidean", "cosine")
Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]
_BATCH = 2**20
"""Numbers that are read at a time."""
_ROUNDINGS = 32
"""Roundings of a rough squared distance besides those of its sums, generously counted."""
_LARGEST = torch.finfo(torch.float32).max
_LARGEST_SCALE = 100
"""As a power of two: what such a scale leaves tiny is only told apart exactly."""


class Points:
    """The rows of an array, some of which are to be chosen.

    An exact row holds the stored numbers as float64; divided by its length, where the metric is cosine. A rough one is
    float32, moved by the mean of all rows and scaled by a power of two, so that float32 meets no large numbers.

    Args:
        values: N x D, floating point: a NumPy array, memory-mapped or not, or a torch tensor, on a GPU or not.
        metric: euclidean or cosine.
        device: where rough distances are computed: if not given, the tensor's, or a GPU where there is one.

    Attributes:
        dimension: D.
        scale: of rough rows.
        slack: a rough squared distance of `a` and `b` is wrong by less than this times `|a|^2 + |b|^2`, in whatever
            order a processor sums up (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).

    Raises:
        SparsightError: `values` aren't N x D floating-point numbers, one isn't finite, a row has no direction, or torch
            has been told to multiply less precisely than in float32.
    """

    def __init__(self, values: Any, *, metric: str = "euclidean", device: torch.device | None = None) -> None:
        if metric not in METRICS:
            raise SparsightError(f"metric is {metric!r}; expected one of {', '.join(METRICS)}.")
        if (precision := torch.get_float32_matmul_precision()) != "highest":
            raise SparsightError(
                f"torch multiplies float32 with {precision!r} precision; exact choices need 'highest'.",
                hint="Call torch.set_float32_matmul_precision('highest').",
            )
        self._values = _as_tensor(values)
        self.metric = metric
        self.device = device or (values.device if isinstance(values, Tensor) else best_device())
        self.dimension = int(self._values.shape[1])
        self.slack = (3 * self.dimension + _ROUNDINGS) * 2.0**-24
        self._mean, largest = self._survey()
        self._lengths = self._measure() if metric == "cosine" else None
        exponent = 0 if metric == "cosine" or not largest else -int(np.ceil(np.log2(largest)))
        self.scale = 2.0 ** min(exponent, _LARGEST_SCALE)

    def __len__(self) -> int:
        return int(self._values.shape[0])

    def exact(self, rows: Rows) -> Floats:
        """Give some rows as float64, in the order asked for."""
        found: Floats = self._read(rows).double().cpu().numpy()
        return found if self._lengths is None else found / self._lengths[rows, None]

    def rough(self, rows: Rows) -> Tensor:
        """Give some rows as float32, on the device, in the order asked for."""
        found = self._read(rows).to(self.device)
        if self._lengths is not None:
            return found.float() / torch.from_numpy(self._lengths[rows, None]).to(self.device).float()
        return self._moved(found)

    def roughen(self, exact: Floats) -> Tensor:
        """Make rough rows of exact ones, on the device."""
        rows = torch.from_numpy(exact).to(self.device)
        return rows.float() if self._lengths is not None else self._moved(rows.clone())

    def distances(self, squared: Floats) -> Floats:
        """Turn squared distances of exact rows into what the metric calls distance, which is 1 - cos for cosine."""
        return squared / 2 if self.metric == "cosine" else np.sqrt(squared)

    def batches(self) -> Iterator[Rows]:
        """Divide all rows into batches, in order."""
        step = max(1, _BATCH // self.dimension)
        for first in range(0, len(self), step):
            yield np.arange(first, min(first + step, len(self)))

    def _read(self, rows: Rows) -> Tensor:
        """Copy some rows."""
        return self._values.index_select(0, torch.from_numpy(rows).to(self._values.device))

    def _moved(self, rows: Tensor) -> Tensor:
        """Move and scale rows in place, in their own precision or in float32, whichever is higher."""
        rows = rows if rows.dtype == torch.float64 else rows.float()
        return rows.sub_(self._mean.to(rows)).mul_(self.scale).float()

    def _survey(self) -> tuple[Tensor, float]:
        """Find the mean of all rows and the largest number in them, and whether all are finite."""
        total, largest = torch.zeros(self.dimension, dtype=torch.float64), 0.0
        for rows in self.batches():
            found = self._read(rows)
            size = found.abs()
            peak = float(size.max())
            if not peak <= _LARGEST:
                self._refuse(rows[~(size <= _LARGEST).all(1).cpu().numpy()], "holds a number that isn't finite")
            total += found.sum(0, dtype=torch.float64).cpu()
            largest = max(largest, peak)
        # The same mean for float64 as for float32, or rough rows of both couldn't be compared.
        return (total / len(self)).float(), largest

    def _measure(self) -> Floats:
        """Find the length of each row."""
        lengths = [np.sqrt(np.square(self._read(rows).double().cpu().numpy()).sum(1)) for rows in self.batches()]
        found: Floats = np.concatenate(lengths)
        self._refuse(np.flatnonzero(found == 0), "holds zeros only, which have no direction for cosine to compare")
        return found

    def _refuse(self, rows: Rows, what: str) -> None:
        if len(rows):
            others = f", and so do {len(rows) - 1:,} others" if len(rows) > 1 else ""
            raise SparsightError(
                f"Row {rows[0]:,} of the embeddings {what}{others}.", hint="Leave them out, or embed these images anew."
            )


def _as_tensor(values: Any) -> Tensor:
    """See an array as a tensor, without copying it where its rows lie one after another."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.dtype.itemsize <= 8:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of arrays that mustn't be written to; nothing writes
            values = torch.from_numpy(np.ascontiguousarray(values))
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim != 2 or 0 in values.shape:
        told = f"{values.dtype} {tuple(values.shape)}" if hasattr(values, "shape") else type(values).__name__
        raise SparsightError(f"Embeddings are {told}; expected floating-point numbers, N x D, N and D at least 1.")
    return values.detach()
