"""Frames of videos with their embeddings, for choosing among them in Python.

from sparsight.selection import select
from sparsight.training.videos import embed_videos

films = embed_videos(Path("cameras"), model="moco@latest")
chosen = select(films.embeddings, budget=100)
films.save(chosen.rows, Path("chosen"))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.video.reading import FrameReader
from sparsight.data.video.sampling import Sampling
from sparsight.data.video.saving import save_frames
from sparsight.data.video.sources import Video, find_videos
from sparsight.models.precision import best_device, resolve_precision
from sparsight.training.base_model import open_base_model
from sparsight.training.video_embedding import FrameEmbedder

SAMPLING = Sampling()


@dataclass(frozen=True, kw_only=True)
class EmbeddedVideos:
    """Frames of videos, embedded.

    Attributes:
        videos: where they are from.
        frames: a row for each: id, video, time (seconds from the video's first frame).
        embeddings: float32, one row for each.
    """

    videos: Sequence[Video]
    frames: pd.DataFrame
    embeddings: NDArray[np.float32]

    def save(self, rows: NDArray[np.int64], folder: Path) -> None:
        """Save some frames at full size as JPEG files, in this order, with a table of them; see `save_frames`."""
        chosen = self.frames.iloc[rows].assign(rank=np.arange(len(rows)) + 1)
        save_frames(self.videos, chosen, folder)


def embed_videos(
    place: Path | None = None,
    *,
    prefix: str = "",
    model: str,
    backbone: str = "resnet18",
    sampling: Sampling = SAMPLING,
    max_failures: float = 0.0,
) -> EmbeddedVideos:
    """Embed the frames of videos in one pass; kept in memory are ids and embeddings, not frames.

    Args:
        place: a video, or a folder of videos.
        prefix: in place of it, `container/path/` in Blob Storage.
        model: `imagenet`, `none` (random weights), a registered model such as `moco@latest`, or a model folder.
        backbone: the network for `imagenet` and `none`.
        sampling: which frames, and how small.
        max_failures: share of the videos that may be missing; see `FrameReader.check`.

    Raises:
        SparsightError: there are no videos, no such model, or too much can't be read.
    """
    reader = FrameReader(find_videos(place, prefix=prefix), sampling)
    base = open_base_model(model, None, backbone=backbone, image_size=sampling.width)
    device = best_device()
    rows: list[tuple[str, str, float]] = []
    parts: list[NDArray[np.float32]] = []
    for batch in FrameEmbedder(base, device, resolve_precision("auto", device)).embed(reader):
        rows += [(frame.id, frame.video, frame.time) for frame in batch.frames]
        parts.append(batch.embeddings)
    reader.check(max_failures)
    frames = pd.DataFrame(rows, columns=["id", "video", "time"])
    return EmbeddedVideos(videos=reader.videos, frames=frames, embeddings=np.concatenate(parts))
