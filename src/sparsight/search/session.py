"""Many searches in one index, from image files to neighbours: what can be kept open is, and changes are noticed."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sparsight.search.filters import DocumentFilter
from sparsight.search.index import Index
from sparsight.search.query import open_query_model
from sparsight.search.reranking import FloatEmbeddings
from sparsight.search.searching import Neighbour, Searcher
from sparsight.search.structures import Rows

_DOCUMENTS_SECONDS = 60.0
"""For so long the database isn't asked again which photos may be found."""


class Session:
    """An index, the model of its embeddings, and what narrows searches in it.

    Args:
        folder: the index.
        model: where to take its model from, in place of the version that it names; see `open_query_model`.
        embeddings: artefacts with the embeddings of all its photos, to re-rank by; empty to leave that out.
        documents: which photos may be found; None for all.
        now: a clock that never goes back.

    Raises:
        SparsightError: the index, its model or the embeddings can't be opened, or don't fit each other.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str | None = None,
        embeddings: Sequence[Path] = (),
        documents: DocumentFilter | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embeddings, self._documents, self._now = tuple(embeddings), documents, now
        self._open(Index(folder))
        self._model = open_query_model(self.index.description, model)

    @property
    def index(self) -> Index:
        """The index as it was when last looked at."""
        return self._searcher.index

    def search(self, photo: bytes, count: int, label: str = "") -> list[Neighbour]:
        """Find the photos that look most like one; changes of the index count from the next search on.

        Args:
            photo: an image file.
            count: how many; fewer are found where no more may be.
            label: a label path; photos at or below it may be found. Empty for all.

        Raises:
            SparsightError: the file holds no image, nothing has the label, or the database can't be asked.
        """
        if not self.index.is_current():
            self._open(Index(self.index.folder))
        return self._searcher.search(self._model.embed(photo), count, label=label, documents=self._rows())

    def _open(self, index: Index) -> None:
        floats = FloatEmbeddings(index, self._embeddings) if self._embeddings else None
        self._searcher = Searcher(index, floats)
        self._found: Rows | None = None
        self._found_at = 0.0

    def _rows(self) -> Rows | None:
        if self._documents is None:
            return None
        if self._found is None or self._now() - self._found_at > _DOCUMENTS_SECONDS:
            self._found, self._found_at = self._documents.rows(self.index), self._now()
        return self._found
