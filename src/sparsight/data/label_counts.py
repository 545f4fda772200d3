"""How often each label was given in the documents of the metadata store."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sparsight.data.labels import Path
from sparsight.stores.metadata import MetadataStore


async def count_labels(store: MetadataStore, containers: Sequence[str]) -> Counter[Path]:
    """Count in how many annotations each label path is given.

    Raises:
        SparsightError: a container is missing, or the database can't be reached.
    """
    await store.require_containers(containers)
    counts: Counter[Path] = Counter()
    for container in containers:
        async for document in store.scan(container, ["labels_with_taxonomy"]):
            annotations = document.get("labels_with_taxonomy")
            for annotation in annotations if isinstance(annotations, list) else ():
                counts.update(paths_of(annotation))
    return counts


def paths_of(annotation: Any) -> Iterator[Path]:
    """The label paths of one annotation as a document holds it; what isn't of their shape is passed over."""
    paths = annotation.get("taxonomy") if isinstance(annotation, dict) else None
    for path in paths if isinstance(paths, list) else ():
        if isinstance(path, list) and path and all(isinstance(name, str) for name in path):
            yield tuple(path)
