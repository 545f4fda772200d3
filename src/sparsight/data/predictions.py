"""What a model says of photos: a predictions artefact, as Parquet and as JSON lines, written batch by batch."""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sparsight.data.artefact import read_manifest

PARQUET, LINES = "predictions.parquet", "predictions.jsonl"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("score", pa.float64()),
        ("levels", pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))),
        ("entropy", pa.float64()),
        ("margin", pa.float64()),
        ("distance", pa.float64()),
        ("unfamiliar", pa.bool_()),
    ]
)
"""docs/prediction.md says what the columns mean."""
DIGITS = 6
"""Decimal places that are kept."""


class PredictionWriter:
    """Writes both files of an unfinished predictions artefact; use it as a context.

    Args:
        folder: of the artefact.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._parquet = self._open.enter_context(pq.ParquetWriter(self.folder / PARQUET, SCHEMA))
        self._lines = self._open.enter_context((self.folder / LINES).open("w", encoding="utf-8"))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, each with every column of SCHEMA, numbers rounded to DIGITS places, to both files alike."""
        rounded = [{name: _rounded(row[name]) for name in SCHEMA.names} for row in rows]
        self._parquet.write_table(pa.Table.from_pylist(rounded, SCHEMA))
        self._lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rounded)


def _rounded(content: Any) -> Any:
    if isinstance(content, float):
        return round(content, DIGITS)
    if isinstance(content, Mapping):
        return {key: _rounded(value) for key, value in content.items()}
    return [_rounded(each) for each in content] if isinstance(content, list) else content


def load_predictions(folder: Path) -> pd.DataFrame:
    """Load a predictions artefact.

    Returns:
        One row for each photo, with the columns of SCHEMA; `levels` holds arrays of {label, probability}.

    Raises:
        SparsightError: the folder isn't a whole predictions artefact.
    """
    read_manifest(folder, "predictions")
    return pd.read_parquet(folder / PARQUET)
