"""A search from an image file to neighbours: through model, code, filters and, where wanted, float embeddings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsight.errors import SparsightError
from sparsight.search.filters import allowed
from sparsight.search.index import Index
from sparsight.search.reranking import FloatEmbeddings
from sparsight.search.structures import Rows

MOST_NEIGHBOURS = 1000
_CANDIDATES_EACH, _FEWEST_CANDIDATES = 10, 200
"""To re-rank: ten times as many as are wanted, but not too few."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A photo that was found.

    Attributes:
        id: of its document.
        container: of that, in Cosmos DB.
        uri: where the photo is.
        label: its label path when it was indexed, or empty.
        distance: how many bits of the codes differ.
        cosine_distance: of the embeddings, from 0 to 2; None where they weren't compared.
    """

    id: str
    container: str
    uri: str
    label: str
    distance: int
    cosine_distance: float | None = None


class Searcher:
    """Finds neighbours of embeddings in an index.

    Args:
        index: opened.
        embeddings: of its photos, to put what is found into a finer order; None to leave it as the codes have it.
    """

    def __init__(self, index: Index, embeddings: FloatEmbeddings | None = None) -> None:
        self.index, self._embeddings = index, embeddings

    def search(
        self, embedding: NDArray[np.float32], count: int, *, label: str = "", documents: Rows | None = None
    ) -> list[Neighbour]:
        """Find the photos nearest to an embedding, nearest first.

        Args:
            embedding: float32 D.
            count: how many; fewer are found where no more may be.
            label: a label path; photos at or below it may be found. Empty for all.
            documents: rows that may be found, as a DocumentFilter gives them; None for all.

        Raises:
            SparsightError: the count is out of bounds, or no photo has the label.
        """
        if not 1 <= count <= MOST_NEIGHBOURS:
            raise SparsightError(f"The number of neighbours is {count:,}; expected 1 to {MOST_NEIGHBOURS:,}.")
        among = allowed(self.index, label, documents)
        code = self.index.code.encode(embedding[None])[0]
        wanted = count if self._embeddings is None else max(_FEWEST_CANDIDATES, _CANDIDATES_EACH * count)
        distances, rows = self.index.search(code, wanted, among)
        cosines: list[float | None] = [None] * len(rows)
        if self._embeddings is not None:
            found = self._embeddings.distances(embedding, rows)
            order = np.argsort(found, kind="stable")[:count]
            distances, rows, cosines = distances[order], rows[order], found[order].tolist()
        photos = self.index.photos.rows(rows)
        return [
            Neighbour(**photo, distance=distance, cosine_distance=cosine)
            for photo, distance, cosine in zip(photos, distances.tolist(), cosines, strict=True)
        ]
