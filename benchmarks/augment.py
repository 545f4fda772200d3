"""Two views an image by our batched augmentation against lightly's MoCoV2Transform in a DataLoader, on one core each.

Both start from decoded photos in memory and end with normalised float batches. The peer runs as its documentation has
it, a torchvision-style dataset under a DataLoader with one worker; ours in one process with one thread.
"""

import argparse
import json
import time
from collections.abc import Iterator

import numpy as np
import psutil
import torch
from lightly.transforms import MoCoV2Transform
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sparsight.data.augment import Augmentation, AugmentationOptions

BATCH = 128


class Photos(Dataset):
    """Decoded photos under lightly's transform."""

    def __init__(self, images: NDArray[np.uint8], repeats: int) -> None:
        self.photos = [Image.fromarray(image) for image in images]
        self.repeats = repeats
        self.transform = MoCoV2Transform(input_size=images.shape[1])

    def __len__(self) -> int:
        return len(self.photos) * self.repeats

    def __getitem__(self, number: int) -> list[torch.Tensor]:
        return self.transform(self.photos[number % len(self.photos)])


def photos(size: int) -> NDArray[np.uint8]:
    """Smooth coloured noise; how long either side takes doesn't depend on what a photo shows."""
    coarse = torch.rand(BATCH * 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def ours(images: NDArray[np.uint8]) -> Iterator[int]:
    """Make views batch by batch; yields the number of images done."""
    augment, generator = Augmentation(AugmentationOptions()), torch.Generator().manual_seed(0)
    order = np.random.default_rng(0)
    while True:
        pixels = torch.from_numpy(images[order.integers(0, len(images), BATCH)])
        augment(pixels, generator)
        augment(pixels, generator)
        yield BATCH


def lightlys(images: NDArray[np.uint8]) -> Iterator[int]:
    """Make views in a DataLoader; yields the number of images done."""
    loader = DataLoader(
        Photos(images, 500), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=1, prefetch_factor=2
    )
    for views in loader:
        yield len(views[0])


def cpu_seconds() -> float:
    """Processor time of this process and its workers, which tells the same on a busy machine as on an idle one."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def rate(batches: Iterator[int], seconds: float) -> float:
    """Images, each in two views, for each second of processor time, after a warm-up."""
    for _ in range(4):
        next(batches)
    done, began, used = 0, time.perf_counter(), cpu_seconds()
    while time.perf_counter() - began < seconds or not done:
        done += next(batches)
    return done / (cpu_seconds() - used)


def main() -> None:
    """Measure both in turns, so that a change in the machine's mood meets both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    seconds, rounds = (4.0, 1) if parser.parse_args().quick else (15.0, 3)
    torch.set_num_threads(1)
    ratios = {}
    for size in (32, 100):
        images = photos(size)
        mine, theirs = [], []
        for _ in range(rounds):
            theirs.append(rate(lightlys(images), seconds))
            mine.append(rate(ours(images), seconds))
        ours_rate, their_rate = float(np.median(mine)), float(np.median(theirs))
        ratios[size] = ours_rate / their_rate
        print(f"{size} px: ours {ours_rate:,.0f}, lightly {their_rate:,.0f} images per core and second, in two views")
    result = {
        "name": "two-view augmentation, images per second of processor time, the worse of 32 and 100 px",
        "peer": "lightly MoCoV2Transform in a DataLoader with one worker",
        "ratio": round(min(ratios.values()), 2),
        "ratios": {f"{size} px": round(ratio, 2) for size, ratio in ratios.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
