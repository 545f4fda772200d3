"""Artefacts of a few photos to be labelled, in Azurite, and who labels them."""

import asyncio
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sparsight.data.artefact import new_artefact, write_text
from sparsight.stores.images import ImageStore

TAXONOMY = """\
nodes:
  cell: {}
  cell/whole: {names: {de: Heil}}
  cell/broken: {}
  nothing: {reject: true}
retired:
  cell/cracked: cell/broken
"""


def photo(number: int) -> bytes:
    """A PNG file, 160 x 120, with coarse noise of its own."""
    noise = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((160, 120), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def upload(container: str, ids: Sequence[str]) -> None:
    """Put a photo for each id into a blob container: `<container>/größe <id>.png`."""

    async def run() -> None:
        async with ImageStore() as store:
            await store.ensure_container(container)
            for number, name in enumerate(ids):
                await store.upload(uri(container, name), photo(number), "image/png")

    asyncio.run(run())


def uri(container: str, name: str) -> str:
    return f"{container}/größe {name}.png"


def write_dataset(folder: Path, container: str, ids: Sequence[str]) -> Path:
    with new_artefact(folder, "dataset", {}) as draft:
        rows = [(name, uri(container, name), "", "") for name in ids]
        table = pd.DataFrame(rows, columns=["id", "uri", "file_hash", "label"])
        table.to_csv(draft.folder / "train.csv", index=False)
        write_text(draft.folder / "containers.json", json.dumps(dict.fromkeys(ids, "cells")))
    return folder


def write_selection(folder: Path, ids: Sequence[str]) -> Path:
    """A selection with these photos, the first of them ranked first but not written first."""
    with new_artefact(folder, "selection", {}) as draft:
        table = pd.DataFrame({"rank": range(1, len(ids) + 1), "id": ids, "distance": 0.5})
        table.iloc[::-1].to_csv(draft.folder / "selected.csv", index=False)
    return folder


def write_predictions(folder: Path, version: str, labels: Mapping[str, str]) -> Path:
    with new_artefact(folder, "predictions", {"model": version or None}) as draft:
        table = pd.DataFrame({"id": list(labels), "label": list(labels.values()), "score": 0.75})
        table.to_parquet(draft.folder / "predictions.parquet")
    return folder
