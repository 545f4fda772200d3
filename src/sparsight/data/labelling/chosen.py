"""What is to be labelled: the photos of a selection with their addresses, and what a model says of them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import pandas as pd

from sparsight.data.artefact import read_manifest
from sparsight.data.dataset import read_photos
from sparsight.data.labels import Path, split_path
from sparsight.errors import SparsightError

_TEXT: Mapping[Hashable, type[str]] = {"id": str, "uri": str, "container": str}


@dataclass(frozen=True, kw_only=True)
class ChosenPhoto:
    """A photo to be labelled.

    Args:
        id: unique in its container.
        container: the Cosmos DB container of its document.
        uri: where the photo is.
    """

    id: str
    container: str
    uri: str


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A model's label for a photo, and how sure it is, 0 to 1."""

    path: Path
    score: float


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """One model version's labels, by the photo's id."""

    model_version: str
    by_photo: Mapping[str, Guess]


def chosen_photos(selection: FilePath, dataset: FilePath | None) -> list[ChosenPhoto]:
    """Read a selection's photos, the first to be labelled first.

    Args:
        selection: artefact; of its selected.csv the columns rank and id are read, and uri and container where it has
            them.
        dataset: artefact that the selection was made from: addresses and containers, for a selection without them.

    Raises:
        SparsightError: an artefact is no good, the dataset lacks a photo of the selection, or there is none where the
            selection has no addresses.
    """
    read_manifest(selection, "selection")
    table = pd.read_csv(selection / "selected.csv", dtype=_TEXT, keep_default_na=False)
    table = table.sort_values("rank", kind="stable")
    if not {"uri", "container"} <= set(table.columns):
        table = _with_addresses(table, selection, dataset)
    rows = zip(table["id"], table["container"], table["uri"], strict=True)
    return list(dict.fromkeys(ChosenPhoto(id=photo, container=container, uri=uri) for photo, container, uri in rows))


def _with_addresses(table: pd.DataFrame, selection: FilePath, dataset: FilePath | None) -> pd.DataFrame:
    if dataset is None:
        raise SparsightError(
            f"{selection} doesn't say where its photos are.",
            hint="Give the dataset that the selection was made from, too.",
        )
    known = read_photos(dataset).set_index("id")
    _require(list(table["id"]), known.index, selection, dataset)
    return table[["id"]].join(known[["container", "uri"]], on="id")


def _require(ids: Sequence[str], known: "pd.Index[str]", selection: FilePath, dataset: FilePath) -> None:
    there = set(known)
    missing = [photo for photo in ids if photo not in there]
    if missing:
        raise SparsightError(
            f"{dataset} lacks {len(missing):,} of the {len(ids):,} photos in {selection}: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}.",
            hint="Give the dataset that the selection was made from.",
        )


def read_guesses(predictions: FilePath) -> Guesses:
    """Read a predictions artefact: what its model says of each photo, where it is sure enough of anything.

    Raises:
        SparsightError: the artefact is no good, or doesn't say which model made it.
    """
    version = _model_version(predictions)
    table = pd.read_parquet(predictions / "predictions.parquet", columns=["id", "label", "score"])
    rows = zip(table["id"], table["label"], table["score"], strict=True)
    guesses = {str(photo): Guess(path=split_path(label), score=float(score)) for photo, label, score in rows if label}
    return Guesses(model_version=version, by_photo=guesses)


def _model_version(predictions: FilePath) -> str:
    """Name what made predictions: the registered model's version, or else its weights, as Label Studio will show it."""
    parameters = read_manifest(predictions, "predictions").parameters
    model, weights = parameters.get("model"), parameters.get("weights_digest")
    if not model and not weights:
        raise SparsightError(f"{predictions} doesn't say which model made it: its manifest names no model.")
    return str(model or f"weights {str(weights)[:12]}").replace(",", ";")  # versions are listed with commas between
