"""Small photos in four formats, in Blob Storage and as a dataset, for tests of data_prep."""

import asyncio
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sparsight.data.artefact import new_artefact
from sparsight.stores.images import ImageStore

COUNT = 160


def photo(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(noise).resize((80 + number % 5, 60 + number % 7), Image.Resampling.BICUBIC)
    image.save(buffer, ("JPEG", "PNG", "WEBP", "TIFF")[number % 4])
    return buffer.getvalue()


PHOTOS = {f"photo-{number:03d}": photo(number) for number in range(COUNT)}


def upload(container: str, files: Mapping[str, bytes]) -> None:
    async def run() -> None:
        async with ImageStore() as store, asyncio.TaskGroup() as group:
            await store.ensure_container(container)
            for name, content in files.items():
                group.create_task(store.upload(f"{container}/{name}", content, "application/octet-stream"))

    asyncio.run(run())


def table(container: str, names: list[str], hashes: Mapping[str, bytes] = PHOTOS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": names,
            "uri": [f"{container}/{name}" for name in names],
            "file_hash": [hashlib.sha256(hashes[name]).hexdigest() if name in hashes else "" for name in names],
            "label": [f"cells/{name[-1]}" for name in names],
            "split": "train",
        }
    )


def write_dataset(folder: Path, dataset: pd.DataFrame) -> Path:
    with new_artefact(folder, "dataset", {"containers": "photos", "limit": None}) as draft:
        draft.counts["train"] = int((dataset["split"] == "train").sum())
        for split, rows in dataset.groupby("split", sort=False):
            rows.drop(columns="split").to_csv(draft.folder / f"{split}.csv", index=False)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
