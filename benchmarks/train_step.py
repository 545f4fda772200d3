"""Images a second of MoCo pre-training: ours against the loop of lightly's own MoCo example, on this machine.

Same images, backbone, batch, queue, projection head and augmentation strengths. The peer's loop is that of lightly's
documentation (examples/pytorch/moco.py): a torchvision-style dataset with MoCoV2Transform in a DataLoader,
MoCoProjectionHead, NTXentLoss with a memory bank, update_momentum, SGD. It is measured as written and, to give it its
best, also with the mixed precision and channels-last memory that ours has; each with the better of several numbers of
workers. Ours does more in a step: it shuffles batch norm, which the example leaves out.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; helps both where cores are shared

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sparsight.data.artefact import new_artefact
from sparsight.data.augment import Augmentation, AugmentationOptions
from sparsight.data.packed import PackedImages, shard_name
from sparsight.models.backbones import create_backbone, wants_small_image_stem
from sparsight.models.folder import BackboneDescription
from sparsight.models.moco import MoCo, MoCoOptions
from sparsight.models.precision import best_device, mixed, resolve_precision
from sparsight.training.moco import MoCoTrainer
from sparsight.training.pretraining import PretrainingOptions

BATCH, QUEUE = 128, 2048
DEVICE = best_device()


class Photos(Dataset):
    """Decoded photos under lightly's transform, in the form of torchvision's datasets: views and a target."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.photos = [Image.fromarray(image) for image in images]
        self.transform = MoCoV2Transform(input_size=images.shape[1])

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, number: int) -> tuple[list[torch.Tensor], int]:
        return self.transform(self.photos[number]), 0


class LightlyMoCo(torch.nn.Module):
    """The model of lightly's example."""

    def __init__(self, backbone: torch.nn.Module, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = MoCoProjectionHead(features, features, 128)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Project queries."""
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def forward_momentum(self, x: torch.Tensor) -> torch.Tensor:
        """Project keys."""
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()


def backbone(name: str, size: int) -> torch.nn.Module:
    """The network that both train."""
    torch.manual_seed(0)
    return create_backbone(BackboneDescription(name=name, small_image_stem=wants_small_image_stem(size)))


def lightlys(images: NDArray[np.uint8], name: str, *, workers: int, tuned: bool) -> Iterator[None]:
    """Lightly's example loop; yields after each step."""
    network = backbone(name, images.shape[1])
    model = LightlyMoCo(network, network.num_features).to(DEVICE)
    layout = torch.channels_last if tuned else torch.contiguous_format
    model = model.to(memory_format=layout)
    precision = resolve_precision("auto", DEVICE) if tuned else torch.float32
    loader = DataLoader(Photos(images), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers)
    criterion = NTXentLoss(memory_bank_size=(QUEUE, 128)).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    while True:
        for (x_query, x_key), _ in loader:
            update_momentum(model.backbone, model.backbone_momentum, m=0.99)
            update_momentum(model.projection_head, model.projection_head_momentum, m=0.99)
            with mixed(DEVICE, precision):
                query = model(x_query.to(DEVICE).contiguous(memory_format=layout))
                key = model.forward_momentum(x_key.to(DEVICE).contiguous(memory_format=layout))
            loss = criterion(query.float(), key.float())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            yield


def ours(folder: Path, name: str) -> Iterator[None]:
    """Our training; yields after each step."""
    images = PackedImages(folder)
    trainer = MoCoTrainer(
        MoCo(backbone(name, images.size[0]), MoCoOptions(queue_size=QUEUE)),
        images,
        images.positions("train"),
        [Augmentation(AugmentationOptions())] * 2,
        PretrainingOptions(batch_size=BATCH),
        device=DEVICE,
        precision=resolve_precision("auto", DEVICE),
    )
    trainer.network.train()
    for epoch in range(10**6):
        for part in trainer.parts(epoch):
            trainer.step([part])[0].item()
            yield


def rate(steps: Iterator[None], seconds: float) -> float:
    """Images a second, after the first step."""
    next(steps)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or not done:
        next(steps)
        done += BATCH
    return done / (time.perf_counter() - started)


def pack(images: NDArray[np.uint8], folder: Path) -> Path:
    """Write images as data_prep does."""
    with new_artefact(folder, "images", {"resize": "fit"}) as draft:
        np.save(draft.folder / shard_name(0), images)
        index = pd.DataFrame({"id": [str(number) for number in range(len(images))], "shard": 0})
        index.assign(row=range(len(images)), split="train", label="").to_parquet(draft.folder / "index.parquet")
        draft.counts.update(images=len(images), shards=1, failures=0)
    return folder


def main() -> None:
    """Measure all in turns, so that a change in the machine's mood meets all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--backbone", default="resnet10_narrow")
    parser.add_argument("--size", type=int, default=32, help="of the images, in pixels a side")
    arguments = parser.parse_args()
    seconds, rounds, workers = (3.0, 1, (1,)) if arguments.quick else (15.0, 3, (0, 1, 2))
    shape = (8 * BATCH, arguments.size, arguments.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pack(images, Path(scratch) / "images")
        for _ in range(rounds):
            for tuned in (False, True):
                for count in workers:
                    steps = lightlys(images, arguments.backbone, workers=count, tuned=tuned)
                    key = f"lightly {'tuned' if tuned else 'as documented'}, {count} workers"
                    rates.setdefault(key, []).append(rate(steps, seconds))
            rates.setdefault("ours", []).append(rate(ours(folder, arguments.backbone), seconds))
    medians = {key: float(np.median(values)) for key, values in rates.items()}
    for key, value in medians.items():
        print(f"{key}: {value:,.0f} images/s")
    best = {kind: max(v for k, v in medians.items() if kind in k) for kind in ("as documented", "tuned")}
    result = {
        "name": f"MoCo training, {arguments.backbone} at {arguments.size} px, batch {BATCH}, images per second",
        "peer": "lightly's MoCo example loop with our mixed precision and channels-last memory added",
        "ratio": round(medians["ours"] / best["tuned"], 2),
        "ratio_as_documented": round(medians["ours"] / best["as documented"], 2),
        "device": str(DEVICE),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
