"""What each way of pre-training learns in as many epochs: kNN accuracy on digits, and seconds of processor time.

All see the same 2,000 digits, in the same order, with the same backbone, batch, schedule and seed, and views by the
same options; SwAV's small crops come on top. Barlow Twins has a learning rate of its own, the others share one. The
bank of the probe is what was trained on, with its labels; 1,000 digits that nobody trained on ask. The peer is MoCo v2;
`ratio` is SwAV's error over MoCo's.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.photo_sets import DIGITS, Collection, describe, digits, pack

from sparsight.data.augment import Augmentation
from sparsight.data.crops import CropOptions, multi_crop
from sparsight.data.packed import PackedImages
from sparsight.evaluation.probes import KnnProbe
from sparsight.models.backbones import create_backbone
from sparsight.models.folder import Preprocessing
from sparsight.models.moco import MoCo
from sparsight.models.precision import best_device, resolve_precision
from sparsight.models.swav import SwAV, SwAVOptions
from sparsight.models.two_views import BarlowTwins, BarlowTwinsOptions, SimCLR, SimCLROptions
from sparsight.training.moco import MoCoTrainer
from sparsight.training.pretraining import Pretrainer, PretrainingOptions
from sparsight.training.swav import SwAVTrainer
from sparsight.training.two_views import TwoViewTrainer

VIEWS = DIGITS.views
SMALL = CropOptions(small_crops=4, small_crop_size=14, small_crop_scale=(0.1, 0.4))
RATES = {"Barlow Twins": 0.003}
METHODS: dict[str, tuple[type[Pretrainer[Any]], Callable[[Any], Any]]] = {
    "MoCo v2": (MoCoTrainer, lambda backbone: MoCo(backbone, DIGITS.task)),
    "SwAV": (
        SwAVTrainer,
        lambda backbone: SwAV(backbone, SwAVOptions(prototypes=100, hidden_dimension=256, queue_size=0)),
    ),
    "SimCLR": (TwoViewTrainer, lambda backbone: SimCLR(backbone, SimCLROptions(temperature=0.2))),
    "Barlow Twins": (TwoViewTrainer, lambda backbone: BarlowTwins(backbone, BarlowTwinsOptions())),
}


def measure(
    name: str, collection: Collection, images: PackedImages, options: PretrainingOptions
) -> dict[str, float | str]:
    """Train by one method."""
    trainer_of, network_of = METHODS[name]
    device = best_device()
    torch.manual_seed(options.seed)
    trainer = trainer_of(
        network_of(create_backbone(describe(collection))),
        images,
        images.positions("train"),
        multi_crop(VIEWS, SMALL, images.size[0]) if name == "SwAV" else [Augmentation(VIEWS)] * 2,
        replace(options, learning_rate=RATES.get(name, options.learning_rate)),
        device=device,
        precision=resolve_precision("auto", device),
    )
    preprocessing = Preprocessing(image_size=images.size[0], resize="squash", mean=VIEWS.mean, std=VIEWS.std)
    probe = KnnProbe(images, preprocessing)
    untrained = probe(trainer.network.backbone)["knn_accuracy"]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(Path(place), report=lambda record: None)
    seconds = time.process_time() - began
    last = trainer.history[-1]
    found = {"untrained": untrained, "knn": probe(trainer.network.backbone)["knn_accuracy"], "loss": last.loss}
    return {"method": name, **{key: round(value, 4) for key, value in found.items()}, "cpu_seconds": round(seconds)}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="600 digits, 2 epochs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=2000, help="digits to train on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.images, chosen.epochs = 600, 2
    collection = digits()
    pool = np.random.default_rng(0).permutation(collection.pool())[: chosen.images]
    options = PretrainingOptions(
        epochs=chosen.epochs, batch_size=chosen.batch, learning_rate=DIGITS.learning_rate, seed=chosen.seed
    )
    with tempfile.TemporaryDirectory() as place:
        images = pack(Path(place) / "images", collection, {"train": pool, "valid": collection.test})
        rows = []
        for name in chosen.methods:
            rows.append(measure(name, collection, images, options))
            print(json.dumps(rows[-1]), flush=True)
    errors = {str(row["method"]): 1 - float(row["knn"]) for row in rows}
    result = {
        "name": f"kNN error on digits after {chosen.epochs} epochs of {len(pool):,}, SwAV over MoCo v2",
        "peer": "MoCo v2",
        "ratio": round(errors["SwAV"] / errors["MoCo v2"], 2) if {"SwAV", "MoCo v2"} <= set(errors) else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
