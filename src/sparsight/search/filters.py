"""Which photos of an index may be found: by their label in the index, and by what their documents say now.

Documents change all the time, by labels, reviews and measurements, and hold what shouldn't lie about in copies. So the
database is asked when somebody searches, in its own language, and the index keeps no field of it but label and address.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

from sparsight.data.labels import split_path
from sparsight.data.query import check_where
from sparsight.search.index import Index
from sparsight.search.structures import Rows
from sparsight.stores.metadata import open_metadata


@dataclass(frozen=True, kw_only=True)
class DocumentFilter:
    """A condition on photos' documents.

    Attributes:
        where: in Cosmos SQL on the document `c`.
        parameters: values of the parameters in it, by `@name`.

    Raises:
        SparsightError: the condition is malformed, or names other parameters than those given.
    """

    where: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_where(self.where, self.parameters)

    def rows(self, index: Index) -> Rows:
        """Ask the database that the environment names; rows of the index, in ascending order.

        Raises:
            SparsightError: it can't be reached, refuses the condition, or lacks a container of the index.
        """
        containers = pc.unique(index.photos.column("container")).to_pylist()
        return index.photos.among(asyncio.run(self._ids(containers)))

    async def _ids(self, containers: list[str]) -> list[str]:
        text = f"SELECT VALUE c.id FROM c WHERE ({self.where})"  # noqa: S608 - values are parameters
        async with open_metadata() as store:
            await store.require_containers(containers)
            found = [await store.query(container, text, self.parameters) for container in containers]
        return [each for ids in found for each in ids]


def allowed(index: Index, label: str, documents: Rows | None) -> Rows | None:
    """Combine filters.

    Args:
        index: opened.
        label: a label path; photos at or below it may be found. Empty for all.
        documents: rows that a DocumentFilter has found, or None for all.

    Returns:
        Rows in ascending order, or None for all.

    Raises:
        SparsightError: no photo of the index has the label.
    """
    if not label:
        return documents
    labelled = index.photos.labelled(split_path(label))
    return labelled if documents is None else np.intersect1d(labelled, documents)
