"""Photos chosen to be labelled next: a selection artefact's table, written and read."""

import json
from pathlib import Path

import pandas as pd

from sparsight.data.artefact import read_manifest
from sparsight.data.dataset import read_dataset
from sparsight.errors import SparsightError

SELECTED = "selected.csv"


def write_selected(folder: Path, chosen: pd.DataFrame, dataset: Path | None) -> None:
    """Write selected.csv into an unfinished selection artefact.

    Args:
        folder: of the artefact.
        chosen: columns rank, from 1; id; distance, infinite where there is none; and others, which are left out.
        dataset: artefact that tells where photos are; None to leave that out.

    Raises:
        SparsightError: the dataset lacks one of the photos.
    """
    distance = ["" if value == float("inf") else f"{value:.6g}" for value in chosen["distance"]]
    table = pd.DataFrame({"rank": chosen["rank"].tolist(), "id": chosen["id"].tolist(), "distance": distance})
    if dataset is not None:
        table = table.join(_where_photos_are(dataset, table["id"].tolist()))
    table.to_csv(folder / SELECTED, index=False, lineterminator="\n", encoding="utf-8")


def load_selected(folder: Path) -> pd.DataFrame:
    """Load a selection artefact's table.

    Returns:
        Columns rank (int), id, distance (float, infinite where there is none), in the order of ranks; and uri and
        container, where a dataset was given to the step that chose.

    Raises:
        SparsightError: the folder isn't a whole selection artefact.
    """
    read_manifest(folder, "selection")
    table = pd.read_csv(folder / SELECTED, dtype=str, keep_default_na=False, encoding="utf-8", lineterminator="\n")
    distance = table["distance"].replace("", "inf").astype(float)
    return table.assign(rank=table["rank"].astype(int), distance=distance)


def _where_photos_are(dataset: Path, ids: list[str]) -> pd.DataFrame:
    """Look photos up: columns uri and container, in the order of `ids`."""
    uris = read_dataset(dataset).drop_duplicates("id").set_index("id")["uri"]
    containers = json.loads((dataset / "containers.json").read_text(encoding="utf-8"))
    missing = [each for each in ids if each not in uris.index or each not in containers]
    if missing:
        raise SparsightError(
            f"{dataset} lacks {len(missing):,} of the {len(ids):,} photos that were chosen; the first is {missing[0]}.",
            hint="Give the dataset that the embedded images were made of.",
        )
    return pd.DataFrame({"uri": uris[ids].tolist(), "container": [containers[each] for each in ids]})
