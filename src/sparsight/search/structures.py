"""How codes are searched with FAISS: all of them in turn, or by lists or a graph that leave most of them out."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.search.code import Bits

StructureName = Literal["flat", "ivf", "hnsw"]
STRUCTURES: tuple[str, ...] = get_args(StructureName)
Distances = NDArray[np.int64]
Rows = NDArray[np.int64]

LARGEST_FLAT = 2_000_000
"""Up to so many codes, all are compared with a query: nothing is missed, and it takes milliseconds."""
_SAMPLES_PER_LIST = 64
"""Codes from which k-means learns where the centre of a list is; FAISS asks for 39 or more."""
_SHARE_LOOKED_AT, _FEWEST_LOOKED_AT = 1 / 32, 8
"""Of all lists, those nearest to the query."""
_LINKS, _BREADTH = 16, 128
"""Of the graph: links of each code, and how many candidates a search keeps."""


def resolve_structure(name: str, count: int) -> StructureName:
    """Take the structure asked for, or for `auto` the one that goes with so many codes.

    Raises:
        SparsightError: it isn't known.
    """
    if name == "auto":
        return "flat" if count <= LARGEST_FLAT else "ivf"
    if name not in STRUCTURES:
        raise SparsightError(f"structure is {name!r}; expected auto, {', '.join(STRUCTURES)}.")
    return name  # type: ignore[return-value]


def compare_all(codes: Bits, queries: Bits, count: int) -> tuple[Distances, Rows]:
    """Find the codes nearest to each query by comparing it with all.

    Args:
        codes: uint8 N x bytes, memory-mapped or not.
        queries: uint8 Q x bytes.
        count: how many to find of each; fewer where there are no more.

    Returns:
        Hamming distances, int64 Q x K, ascending, and rows of the codes, int64 Q x K; among equal distances the lowest
        rows come first.
    """
    import faiss

    count = min(count, len(codes))
    if not count or not len(queries):
        return np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.int64)
    distances, rows = faiss.knn_hamming(np.ascontiguousarray(queries), np.ascontiguousarray(codes), count)
    return distances.astype(np.int64), rows


class Structure:
    """A FAISS index of codes that looks at some of them only: `ivf`, inverted lists, or `hnsw`, a graph.

    These are FAISS's IndexBinaryIVF and IndexBinaryHNSW (Malkov and Yashunin 2018). Codes are known by their rows.

    Args:
        index: of FAISS.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, name: StructureName, codes: Bits) -> Self:
        """Index codes, uint8 N x bytes; equal ones give an equal structure."""
        import faiss

        bits = codes.shape[1] * 8
        with _one_thread():
            if name == "hnsw":
                index = faiss.IndexBinaryHNSW(bits, _LINKS)
                index.hnsw.efSearch = _BREADTH
            else:
                index = _lists(bits, codes)
            index.add(np.ascontiguousarray(codes))
        return cls(index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, codes: Bits) -> None:
        """Index further codes, uint8 N x bytes, as the rows after those that are there."""
        with _one_thread():
            self._index.add(np.ascontiguousarray(codes))

    def search(self, query: Bits, count: int) -> tuple[Distances, Rows]:
        """Find codes near to a query, uint8 bytes, most of the nearest ones among them.

        Returns:
            As one row of `compare_all`; fewer than asked for where not so many were looked at.
        """
        with _one_thread():  # several would wait for each other for longer than one query takes
            distances, rows = self._index.search(query[None], min(count, len(self)))
        found = rows[0] >= 0
        distances, rows = distances[0][found].astype(np.int64), rows[0][found]
        order = np.lexsort((rows, distances))
        return distances[order], rows[order]

    def to_bytes(self) -> bytes:
        """Write it in FAISS's own format."""
        import faiss

        return bytes(faiss.serialize_index_binary(self._index))

    @classmethod
    def from_bytes(cls, content: bytes, codes: Bits, origin: Path) -> Self:
        """Read what `to_bytes` has written of these codes. The content must be one that this machine's user trusts.

        Raises:
            SparsightError: it is of other codes; `origin` is the file that the error names.
        """
        import faiss

        index = faiss.deserialize_index_binary(np.frombuffer(content, np.uint8))
        if (index.ntotal, index.d) != (len(codes), codes.shape[1] * 8):
            raise SparsightError(
                f"{origin} indexes {index.ntotal:,} codes of {index.d} bits; expected {len(codes):,} of "
                f"{codes.shape[1] * 8}."
            )
        return cls(index)


def _lists(bits: int, codes: Bits) -> Any:
    import faiss

    count = max(1, min(round(len(codes) ** 0.5), len(codes) // _SAMPLES_PER_LIST))
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(bits), bits, count)
    index.cp.max_points_per_centroid = _SAMPLES_PER_LIST
    index.cp.min_points_per_centroid = 1  # so few codes that FAISS would warn are no trouble
    index.train(np.ascontiguousarray(codes))
    index.nprobe = min(count, max(_FEWEST_LOOKED_AT, round(count * _SHARE_LOOKED_AT)))
    return index


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Have FAISS work in one thread; how several divide up the building would change what comes out."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
