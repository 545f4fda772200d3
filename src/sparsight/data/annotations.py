"""What each annotator said about each photo found: the part of a labelled dataset that its settled labels leave out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparsight.data.artefact import read_manifest
from sparsight.data.labels import join_path
from sparsight.errors import SparsightError

ANNOTATIONS = "annotations.parquet"
COLUMNS = ["container", "id", "uri", "annotator", "label", "reviewed"]


def annotations_of(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """List the label paths that annotators gave, also to photos whose labels settle on nothing.

    Args:
        rows: of each container, as `query.fetch` gives them.

    Returns:
        One row for each photo, annotator and path, sorted: container, id, uri, annotator, label (as `join_path` writes
        it) and reviewed (bool: somebody has checked the photo's annotations).
    """
    table = pd.DataFrame(_listed(rows), columns=COLUMNS)
    table = table.astype(dict.fromkeys(COLUMNS[:-1], str) | {"reviewed": bool})
    return table.drop_duplicates().sort_values(["container", "id", "annotator", "label"], ignore_index=True)


def _listed(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[tuple[str, str, str, str, str, bool]]:
    for container, found in rows.items():
        for row in found:
            uri, reviewed = row.get("uri_orig"), row.get("has_review") is True
            for note in row.get("annotations") or []:
                for path in filter(None, note["taxonomy"]):
                    address = uri if isinstance(uri, str) else ""
                    yield container, row["id"], address, str(note.get("annotator_id")), join_path(path), reviewed


def write_annotations(folder: Path, annotations: pd.DataFrame) -> None:
    """Write annotations.parquet into a dataset folder; the same table gives the same bytes."""
    annotations.to_parquet(folder / ANNOTATIONS, index=False)


def read_annotations(folder: Path) -> pd.DataFrame:
    """Read the annotations of a dataset artefact.

    Raises:
        SparsightError: the folder isn't a whole dataset artefact, or it is one without labels.
    """
    read_manifest(folder, "dataset")
    if not (folder / ANNOTATIONS).is_file():
        raise SparsightError(
            f"{folder} holds no {ANNOTATIONS}; expected a dataset of labelled photos.",
            hint="Make it with connect_db, mode labelled.",
        )
    return pd.read_parquet(folder / ANNOTATIONS)
