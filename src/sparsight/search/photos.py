"""What an index knows of its photos besides their codes: id, container, address, label; read row by row from disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparsight.data.dataset import read_photos
from sparsight.data.embeddings import Embeddings
from sparsight.data.labels import Path as Label
from sparsight.data.labels import is_under, join_path, split_paths
from sparsight.errors import SparsightError

Rows = NDArray[np.int64]
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "container", "uri", "label")])
"""The document's id and its container in Cosmos DB; where the photo is; its label when it was indexed, or empty."""
_GROUP = 2**14
"""Rows that are read from disk at once, for the sake of one."""


def photos_of(embeddings: Embeddings, dataset: Path) -> pa.Table:
    """Tell of each row of embeddings which photo it is of.

    Args:
        embeddings: of photos of the dataset.
        dataset: artefact that knows where photos are.

    Raises:
        SparsightError: a photo is there twice, or the dataset lacks one.
    """
    ids = pa.array(embeddings.index["id"], pa.string())
    if pc.count_distinct(ids).as_py() != len(ids):
        raise SparsightError(f"{embeddings.folder} has several embeddings of one photo; expected one of each.")
    known = read_photos(dataset)
    places = pc.index_in(ids, value_set=pa.array(known["id"], pa.string()))
    if places.null_count:
        missing = ids.filter(pc.is_null(places))
        raise SparsightError(
            f"{dataset} lacks {len(missing):,} of the {len(ids):,} photos embedded; the first is {missing[0]}.",
            hint="Give the dataset that the embedded images were made of.",
        )
    found = known.iloc[places.to_numpy()]
    columns = {"id": ids, "container": found["container"], "uri": found["uri"], "label": embeddings.index["label"]}
    return pa.table({name: pa.array(columns[name], pa.string()) for name in SCHEMA.names}, SCHEMA)


def write_photos(path: Path, photos: pa.Table) -> None:
    """Write a table so that some rows of it can be read without the others; the same table gives the same bytes."""
    pq.write_table(photos, path, row_group_size=_GROUP, compression="zstd")


class Photos:
    """The photos of an index, in the order of its codes. What isn't asked for isn't read; the file may be removed.

    Args:
        path: as `write_photos` has written it.

    Raises:
        SparsightError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowInvalid, OSError) as error:
            raise SparsightError(f"{path} can't be read as a table of photos: {error}") from error
        if self._file.schema_arrow.remove_metadata() != SCHEMA:
            raise SparsightError(f"{path} has the columns {self._file.schema_arrow.names}; expected {SCHEMA.names}.")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def table(self) -> pa.Table:
        """Read everything."""
        return self._file.read()

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one column."""
        return self._file.read([name]).column(0)

    def rows(self, rows: Rows) -> list[dict[str, Any]]:
        """Read some rows, in the order asked for."""
        found: dict[int, dict[str, Any]] = {}
        for group in np.unique(rows // _GROUP):
            here = rows[rows // _GROUP == group]
            part = self._file.read_row_group(int(group)).take(pa.array(here - group * _GROUP))
            found |= dict(zip(here.tolist(), part.to_pylist(), strict=True))
        return [found[row] for row in rows.tolist()]

    def labelled(self, node: Label) -> Rows:
        """Rows of photos with a label at or below a node of the taxonomy, in ascending order.

        Raises:
            SparsightError: there is none.
        """
        labels = self.column("label").combine_chunks().dictionary_encode()
        known = labels.dictionary.to_pylist()
        wanted = [any(is_under(path, node) for path in split_paths(label)) for label in known]
        if not any(wanted):
            listed = ", ".join(sorted(filter(None, known))[:20]) or "none"
            raise SparsightError(f"No photo of the index is labelled {join_path(node)!r}. Labels there: {listed}.")
        return np.flatnonzero(np.array(wanted)[labels.indices.to_numpy()])

    def among(self, ids: list[str]) -> Rows:
        """Rows of the photos with one of these ids, in ascending order; ids that aren't there are passed over."""
        return np.flatnonzero(pc.is_in(self.column("id"), value_set=pa.array(ids, pa.string())).to_numpy())
