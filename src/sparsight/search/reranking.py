"""Float embeddings that put candidates found by their codes into a finer order; read where they lie."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sparsight.data.embeddings import Embeddings
from sparsight.errors import SparsightError
from sparsight.search.index import Index
from sparsight.search.structures import Rows
from sparsight.search.writing import check_model


class FloatEmbeddings:
    """The embeddings of an index's photos, in the artefacts that they were indexed from; memory-mapped.

    Args:
        index: opened.
        folders: embeddings artefacts that together hold all of its photos; of a photo in several, the last counts.

    Raises:
        SparsightError: one is of another model, or a photo is in none.
    """

    def __init__(self, index: Index, folders: Sequence[Path]) -> None:
        self._parts = [Embeddings(folder) for folder in folders]
        self._part, self._place = np.full(len(index), -1), np.zeros(len(index), np.int64)
        ids = index.photos.column("id")
        for number, part in enumerate(self._parts):
            check_model(index.description, part)
            places = pc.index_in(ids, value_set=pa.array(part.index["id"], pa.string()))
            here = places.is_valid().to_numpy()
            self._part[here] = number
            self._place[here] = places.drop_null().to_numpy()
        if (missing := np.flatnonzero(self._part < 0)).size:
            raise SparsightError(
                f"{len(missing):,} of the {len(index):,} photos of {index.folder} have no embedding in "
                f"{', '.join(map(str, folders))}; the first is {ids[int(missing[0])]}.",
                hint="Give all embeddings that were built into the index or added to it.",
            )

    def distances(self, embedding: NDArray[np.float32], rows: Rows) -> NDArray[np.float64]:
        """Cosine distances, float64 K, from 0 to 2, of an embedding, float D, to photos in some rows of the index."""
        values = np.empty((len(rows), len(embedding)))
        for place, row in enumerate(rows):
            values[place] = self._parts[self._part[row]].values[self._place[row]]
        lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(embedding)
        found: NDArray[np.float64] = 1 - values @ embedding.astype(np.float64) / np.maximum(lengths, 1e-12)
        return found
