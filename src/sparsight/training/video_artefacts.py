"""What embedding videos leaves behind: embeddings, and the small frames themselves as packed images."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sparsight.data.artefact import is_finished, new_artefact, write_text
from sparsight.data.embeddings import EMBEDDINGS, INDEX
from sparsight.data.frame_shards import FrameShards
from sparsight.data.growing import GrowingArray
from sparsight.data.origin import table_digest
from sparsight.data.video.reading import FrameReader, frame_id
from sparsight.training.base_model import BaseModel
from sparsight.training.embedding import model_parameters
from sparsight.training.video_embedding import FrameEmbedder, Told


def write_video_embeddings(
    reader: FrameReader,
    base: BaseModel,
    embeddings: Path,
    images: Path,
    *,
    device: torch.device,
    precision: torch.dtype,
    max_failures: float,
) -> None:
    """Write an embeddings artefact of frames, and the frames as an images artefact, in one pass over the videos.

    Both indexes say of which video a row is, and when; where both are finished and made of the very same, they are left
    as they are.

    Args:
        reader: of the videos.
        base: the backbone, and what its input is.
        embeddings: one artefact's folder.
        images: the other one's; it also holds failures.csv.
        device: where to.
        precision: of matrix products.
        max_failures: see `FrameReader.check`.

    Raises:
        SparsightError: too much can't be read.
    """
    frames = _frame_parameters(reader)
    parameters = {**model_parameters(base, precision), "images": frames}
    if is_finished(embeddings, "embeddings", parameters) and is_finished(images, "images", frames):
        return
    with (
        new_artefact(images, "images", frames) as shown,
        new_artefact(embeddings, "embeddings", parameters) as embedded,
    ):
        index, shards = _embed(reader, FrameEmbedder(base, device, precision), embedded.folder, shown.folder)
        failures = shown.folder / "failures.csv"
        write_text(failures, reader.failure_table().to_csv(index=False, lineterminator="\n"))
        reader.check(max_failures, failures)
        index.drop(columns=["shard", "row"]).to_parquet(embedded.folder / INDEX, index=False)
        index.to_parquet(shown.folder / "index.parquet", index=False)
        read = {"videos": len(reader.videos), "duplicates": reader.duplicates, "failures": len(reader.failures)}
        embedded.counts.update(images=len(index), **read)
        splits = {"train": len(index), "valid": 0, "test": 0}
        shown.counts.update(images=len(index), rows=len(index), shards=shards, **splits, **read)


def _frame_parameters(reader: FrameReader) -> dict[str, Any]:
    """Describe which frames these are."""
    names = [video.name for video in reader.videos]
    table = pd.DataFrame({"id": names, "digest": [video.digest() for video in reader.videos]})
    return {**dataclasses.asdict(reader.sampling), "resize": "fit", "dataset_sha256": table_digest(table)}


def _embed(reader: FrameReader, embedder: FrameEmbedder, embeddings: Path, images: Path) -> tuple[pd.DataFrame, int]:
    """Write rows and pixels as they come; returns the index of the images, and how many shards they are in."""
    told = Told(reader)
    videos: list[str] = []
    times: list[float] = []
    with GrowingArray(embeddings / EMBEDDINGS, (embedder.width,), np.float32) as written, FrameShards(images) as shards:
        for batch in embedder.embed(reader):
            written.append(batch.embeddings)
            shards.append(np.stack([frame.pixels for frame in batch.frames]))
            videos += [frame.video for frame in batch.frames]
            times += [frame.time for frame in batch.frames]
            told()
    told(last=True)
    places = np.arange(len(videos)) // max(1, shards.room), np.arange(len(videos)) % max(1, shards.room)
    index = pd.DataFrame({"id": [frame_id(*each) for each in zip(videos, times, strict=True)]})
    index["shard"], index["row"] = (each.astype(np.int32) for each in places)
    index["split"], index["label"] = "train", ""
    return index.assign(video=videos, time=np.asarray(times, np.float64)), shards.shards
