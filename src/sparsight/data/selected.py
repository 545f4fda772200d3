"""Photos chosen to be labelled next: a selection artefact's table, written and read."""

import json
from pathlib import Path

import pandas as pd

from sparsight.data.artefact import read_manifest
from sparsight.data.dataset import read_dataset
from sparsight.data.packed import FRAME_COLUMNS
from sparsight.errors import SparsightError

SELECTED = "selected.csv"


def write_selected(
    folder: Path, chosen: pd.DataFrame, dataset: Path | None, frames: pd.DataFrame | None = None
) -> None:
    """Write selected.csv into an unfinished selection artefact.

    Args:
        folder: of the artefact.
        chosen: columns rank, from 1; id; distance, infinite where there is none; and others, which are left out.
        dataset: artefact that tells where photos are; None to leave that out.
        frames: columns video and time by id, where frames of videos were chosen.

    Raises:
        SparsightError: the dataset lacks one of the photos.
    """
    distance = ["" if value == float("inf") else f"{value:.6g}" for value in chosen["distance"]]
    table = pd.DataFrame({"rank": chosen["rank"].tolist(), "id": chosen["id"].tolist(), "distance": distance})
    if dataset is not None:
        table = table.join(_where_photos_are(dataset, table["id"].tolist()))
    if frames is not None:
        of_chosen = frames.loc[table["id"]]
        table["video"], table["time"] = of_chosen["video"].tolist(), [f"{time:.6f}" for time in of_chosen["time"]]
    table.to_csv(folder / SELECTED, index=False, lineterminator="\n", encoding="utf-8")


def load_selected(folder: Path) -> pd.DataFrame:
    """Load a selection artefact's table.

    Returns:
        Columns rank (int), id, distance (float, infinite where there is none), in the order of ranks; uri and
        container, where a dataset was given to the step that chose; video and time (float, seconds), where frames were
        chosen.

    Raises:
        SparsightError: the folder isn't a whole selection artefact.
    """
    read_manifest(folder, "selection")
    table = pd.read_csv(folder / SELECTED, dtype=str, keep_default_na=False, encoding="utf-8", lineterminator="\n")
    distance = table["distance"].replace("", "inf").astype(float)
    if "time" in table:
        table["time"] = table["time"].astype(float)
    return table.assign(rank=table["rank"].astype(int), distance=distance)


def load_selected_frames(folder: Path) -> pd.DataFrame:
    """Load a selection artefact's table, which must be of frames of videos.

    Raises:
        SparsightError: it is of photos, or the folder isn't a whole selection artefact.
    """
    table = load_selected(folder)
    if not set(FRAME_COLUMNS) <= set(table.columns):
        raise SparsightError(
            f"{folder} is a choice of photos; expected frames of videos.",
            hint="Choose from what embed_video makes.",
        )
    return table


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
