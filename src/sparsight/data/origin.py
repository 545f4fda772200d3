"""Where a set of images is from: the query and the rules that chose the photos; it travels on with the images."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from sparsight.data.artefact import Manifest, read_manifest, write_text
from sparsight.errors import SparsightError

ORIGIN = "dataset.json"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of the dataset behind an images artefact.

    Attributes:
        query: what made the dataset: connect_db's inputs.
        counts: photos and rows by split, and photos dropped.
        digest: of the dataset's rows: equal for the same photos with the same labels in the same splits.
    """

    query: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    digest: str = ""


def origin_of(dataset: Path, table: pd.DataFrame) -> Origin:
    """Say where images will be from, by their dataset's folder and its rows."""
    manifest = read_manifest(dataset, "dataset")
    return Origin(query=dict(manifest.parameters), counts=dict(manifest.counts), digest=table_digest(table))


def table_digest(table: pd.DataFrame) -> str:
    """Hash a dataset's rows: columns id, uri, file_hash, label, split."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def write_origin(folder: Path, origin: Origin) -> None:
    """Write dataset.json into an images folder."""
    write_text(folder / ORIGIN, json.dumps(asdict(origin), indent=2, sort_keys=True, default=str) + "\n")


def read_origin(folder: Path, manifest: Manifest) -> Origin:
    """Read where an images folder's photos are from; of one without dataset.json no more than the digest is known.

    Raises:
        SparsightError: dataset.json is damaged.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return Origin(digest=str(manifest.parameters.get("dataset_sha256", "")))
    try:
        return TypeAdapter(Origin).validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise SparsightError(f"{path} can't be read as a dataset's origin: {error}") from error
