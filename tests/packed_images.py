"""Writes tiny images artefacts for tests, in the format that data_prep writes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.artefact import new_artefact
from sparsight.data.packed import shard_name


def write_packed_images(
    folder: Path,
    images: NDArray[np.uint8],
    labels: Sequence[str],
    splits: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    shards: int = 1,
    resize: str = "fit",
    videos: Sequence[str] | None = None,
    times: Sequence[float] | None = None,
) -> Path:
    """Write an images artefact and return its folder.

    Args:
        folder: where to; must not exist yet.
        images: uint8, N x H x W x 3.
        labels: one label path per image, empty for none.
        splits: one of train, valid, test per image.
        ids: one id per image; made up where not given.
        shards: number of .npy files to spread the images over.
        resize: how they are said to have been made square.
        videos: of frames, the name of each one's video, empty for a photo.
        times: of frames, seconds.
    """
    parts = np.array_split(np.arange(len(images)), shards)
    with new_artefact(folder, "images", {"resize": resize}) as draft:
        for number, part in enumerate(parts):
            np.save(draft.folder / shard_name(number), images[part])
        index = pd.DataFrame(
            {
                "id": list(ids) if ids is not None else [f"image-{number:05d}" for number in range(len(images))],
                "shard": np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)]),
                "row": np.concatenate([np.arange(len(part)) for part in parts]),
                "split": list(splits),
                "label": list(labels),
            }
        )
        if videos is not None:
            index = index.assign(video=list(videos), time=np.asarray(times, np.float64))
        index.to_parquet(draft.folder / "index.parquet")
        pd.DataFrame(columns=["id", "uri", "reason"]).to_csv(draft.folder / "failures.csv", index=False)
        draft.counts.update(images=len(images), shards=shards, failures=0)
    return folder
