"""A map of photos to look around in: which of them are drawn, where, and what the page tells of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.packed import PackedImages
from sparsight.evaluation.embedding_map import project
from sparsight.evaluation.thumbnails import sheet

MAP_PHOTOS = 2500
_CHOSEN, _LABELLED = 1000, 500
KINDS = ("candidate", "labelled", "outlier", "chosen")
"""What a photo is, in the order in which they are drawn."""
_SIDE = 48


def selection_map(
    photos: pd.DataFrame,
    embeddings_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    images: PackedImages | None,
    seed: int,
) -> dict[str, Any]:
    """Make what the page draws.

    Args:
        photos: as `write_selection_report` takes them.
        embeddings_of: gives the embeddings of some of them, by their places in the table.
        images: where their pixels are.
        seed: of the layout, and of who is drawn.

    Returns:
        `method` of the layout; `points`, each with x and y from 0 to 1, a kind's place in KINDS, and a text; `sheet`,
        a picture of all thumbnails in the order of points, with `columns` in a row and `side` pixels each; empty
        without images.
    """
    shown = photos_on_map(photos, seed)
    places, method = project(embeddings_of(shown), seed)
    low, high = places.min(axis=0), places.max(axis=0)
    relative = ((places - low) / np.maximum(high - low, 1e-9)).round(4).tolist()
    rows = photos.iloc[shown]
    points = [
        [*place, KINDS.index(row.kind), _text(row)] for place, row in zip(relative, rows.itertuples(), strict=True)
    ]
    pictures = [] if images is None else list(pixels_of(images, rows["id"].tolist()))
    picture, columns = sheet(pictures, _SIDE) if pictures else ("", 1)
    return {"method": method, "points": points, "sheet": picture, "columns": columns, "side": _SIDE, "kinds": KINDS}


def photos_on_map(photos: pd.DataFrame, seed: int) -> NDArray[np.int64]:
    """Choose who is drawn: the first 1,000 that were chosen, 500 labelled ones, and others to make up 2,500.

    Returns:
        Places in the table; those chosen come last, so that nothing hides them.
    """
    random = np.random.default_rng(seed)
    kinds, ranks = photos["kind"].to_numpy(str), photos["rank"].to_numpy()
    chosen = np.flatnonzero(kinds == "chosen")
    chosen = chosen[np.argsort(ranks[chosen])][:_CHOSEN]
    labelled = np.sort(random.permutation(np.flatnonzero(kinds == "labelled"))[:_LABELLED])
    others = random.permutation(np.flatnonzero((kinds == "candidate") | (kinds == "outlier")))
    others = np.sort(others[: MAP_PHOTOS - len(chosen) - len(labelled)])
    return np.concatenate([others, labelled, chosen[::-1]])


def pixels_of(images: PackedImages, ids: list[str]) -> NDArray[np.uint8]:
    """Gather photos by id; those that aren't there are grey."""
    where = pd.Series(np.arange(len(images)), images.index["id"].to_numpy()).groupby(level=0).first()
    positions = where.reindex(ids)
    pixels = np.full((len(ids), *images.size, 3), 200, np.uint8)
    found = positions.notna().to_numpy()
    pixels[found] = images.gather(positions[found].to_numpy(np.int64))
    return pixels


def _text(row: Any) -> str:
    parts = [f"#{row.rank}" if row.rank else str(row.kind), str(row.id), str(row.label)]
    return " · ".join(part for part in parts if part)
