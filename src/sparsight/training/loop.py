"""What training loops share: batches in a reproducible order, fetched ahead."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.packed import PackedImages

WhatT = TypeVar("WhatT")


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
    return (pixels for _, pixels in fetch_ahead(images, ((None, batch) for batch in batches), device))


def fetch_ahead(
    images: PackedImages, batches: Iterable[tuple[WhatT, NDArray[np.int64]]], device: torch.device
) -> Iterator[tuple[WhatT, Tensor]]:
    """Yield what is given beside each batch's positions, and its pixels, reading the next while one is in use."""

    def fetch(what: WhatT, batch: NDArray[np.int64]) -> tuple[WhatT, Tensor]:
        pixels = torch.from_numpy(images.gather(batch))
        return what, pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels

    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as reader:
        pending: deque[Future[tuple[WhatT, Tensor]]] = deque()
        for batch in batches:
            pending.append(reader.submit(fetch, *batch))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
