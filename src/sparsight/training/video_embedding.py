"""Embeds frames of videos while they are decoded: a stream from end to end, so that no frames pile up."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import update_bn

from sparsight.data.augment import normalise
from sparsight.data.fetching import cores
from sparsight.data.video.reading import Frame, FrameReader
from sparsight.models.precision import mixed
from sparsight.progress import duration
from sparsight.training.base_model import BaseModel
from sparsight.training.fitting import one_thread
from sparsight.training.inference import measured_batch_norm

BATCH = 64
_BATCHES_MEASURED = 8
"""So many batches give a backbone with random weights its batch norm's statistics."""
_TOLD_EVERY = 5.0


class EmbeddedFrames(NamedTuple):
    """Some frames, and what a backbone makes of them.

    Attributes:
        frames: B, in the order of their video.
        embeddings: float32, B x D.
    """

    frames: list[Frame]
    embeddings: NDArray[np.float32]


class FrameEmbedder:
    """A backbone that takes frames as they come.

    On a CPU as many batches are under way as there are cores, one thread each, while the caller's thread decodes the
    next ones: whichever of decoding and embedding takes longer gets the cores that the other leaves.

    Args:
        base: the backbone, and what its input is.
        device: where to.
        precision: of matrix products.

    Attributes:
        width: numbers in an embedding.
    """

    def __init__(self, base: BaseModel, device: torch.device, precision: torch.dtype) -> None:
        self.base, self.device, self.precision = base, device, precision
        self.backbone = base.backbone.to(device).to(memory_format=torch.channels_last).eval()
        self.width = int(self.backbone.num_features)  # type: ignore[arg-type]
        self._workers = cores() if device.type == "cpu" else 1

    def embed(self, frames: Iterable[Frame]) -> Iterator[EmbeddedFrames]:
        """Embed a stream; no more than a few batches of it are in memory.

        A backbone with random weights first gets its batch norm's statistics from the first frames.
        """
        batches = _batched(frames)
        if not measured_batch_norm(self.backbone):
            first = list(islice(batches, _BATCHES_MEASURED))
            update_bn((self._view(batch) for batch in first), self.backbone)
            batches = chain(first, batches)
        with self._pool() as pool:
            under_way: deque[tuple[list[Frame], Future[NDArray[np.float32]]]] = deque()
            for batch in batches:
                under_way.append((batch, pool.submit(self._run, batch)))
                if len(under_way) > self._workers:
                    yield _done(*under_way.popleft())
            while under_way:
                yield _done(*under_way.popleft())

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        with one_thread(), ThreadPoolExecutor(self._workers) as pool:
            try:
                yield pool
            finally:
                pool.shutdown(cancel_futures=True)

    def _view(self, batch: list[Frame]) -> Tensor:
        pixels = torch.from_numpy(np.stack([frame.pixels for frame in batch]))
        return normalise(pixels.to(self.device), self.base.mean, self.base.std)

    def _run(self, batch: list[Frame]) -> NDArray[np.float32]:
        with torch.inference_mode(), mixed(self.device, self.precision):
            embeddings: NDArray[np.float32] = self.backbone(self._view(batch)).float().cpu().numpy()
        return embeddings


def _batched(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    source = iter(frames)
    while batch := list(islice(source, BATCH)):
        yield batch


def _done(frames: list[Frame], future: Future[NDArray[np.float32]]) -> EmbeddedFrames:
    return EmbeddedFrames(frames, future.result())


class Told:
    """Says from time to time how far reading is; how many frames there will be, nobody knows.

    Args:
        reader: what is being read.
    """

    def __init__(self, reader: FrameReader) -> None:
        self.reader = reader
        self._started = self._last = time.monotonic()

    def __call__(self, *, last: bool = False) -> None:
        """Print a line where one is due."""
        now = time.monotonic()
        if not last and now - self._last < _TOLD_EVERY:
            return
        self._last = now
        reader, seconds = self.reader, max(now - self._started, 1e-9)
        parts = [
            f"Embedding {reader.decoded - reader.duplicates:,} frames",
            f"{reader.duplicates:,} more were like the one before",
            f"{reader.decoded / seconds:,.1f} frames/s",
        ]
        if last:
            pace = f"{reader.seconds / seconds:.1f} x real time"
            parts.append(f"{duration(reader.seconds)} of video took {duration(seconds)}: {pace}")
        print(" · ".join(parts), flush=True)
