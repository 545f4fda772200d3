"""What training loops share: batches in a reproducible order, fetched ahead."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.packed import PackedImages


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator whose state depends on seed and epoch alone, so that no state needs to outlive an epoch."""
    words = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def shuffled_batches(
    positions: NDArray[np.int64], batch_size: int, generator: torch.Generator
) -> list[NDArray[np.int64]]:
    """Deal positions out in a random order; what doesn't fill a last batch sits this epoch out."""
    order = torch.randperm(len(positions), generator=generator).numpy()
    whole = len(positions) // batch_size * batch_size
    return list(positions[order[:whole]].reshape(-1, batch_size))


def fetch_batches(images: PackedImages, batches: list[NDArray[np.int64]], device: torch.device) -> Iterator[Tensor]:
    """Yield the pixels of each batch on the device, uint8 N x H x W x 3, reading the next while one is in use."""

    def fetch(batch: NDArray[np.int64]) -> Tensor:
        pixels = torch.from_numpy(images.gather(batch))
        return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels

    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as reader:
        pending: deque[Future[Tensor]] = deque()
        for batch in batches:
            pending.append(reader.submit(fetch, batch))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
