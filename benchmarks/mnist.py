"""An autoencoder's encoder as a classifier of MNIST: 10,000 digits, 2,000 of them for the test.

An autoencoder of convolution blocks learns to reconstruct the digits outside the test split; its weights are kept in
the user's cache. Then its encoder gets a head (a dense layer of 128, dropout of 0.3): first the head learns alone,
then all layers. 800 digits choose the epoch. With `--peer`, the same network learns from random weights, as often and
with the same augmentation. The goal is the accuracy of an earlier system that had 60,000 digits to learn from and was
tested on 10,000 others: 0.988. One seed takes some seven minutes of one core's time.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common.photo_sets import CACHE, GREY, Collection, held_out, mnist10k, pack
from safetensors.torch import load_file, save

from sparsight.data.artefact import write_bytes
from sparsight.data.augment import AugmentationOptions
from sparsight.models.autoencoder import Autoencoder, AutoencoderDescription
from sparsight.models.conv_blocks import CENTRE, SPREAD, ConvBlocks
from sparsight.models.precision import best_device, resolve_precision
from sparsight.training.autoencoder import AutoencoderOptions, AutoencoderTrainer
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer, predict
from sparsight.training.labelled import LabelledSplits

GOAL = 0.988
DESIGN = AutoencoderDescription(design="conv_blocks", binary=False, channels=16, cell=4, code_bits=64)
RECONSTRUCTION = AutoencoderOptions(
    epochs=2, batch_size=64, learning_rate=2e-3, schedule="cosine", ssim_weight=0.0, seed=0
)
CLASSIFICATION = ClassifierOptions(
    freeze_backbone=False,
    head_epochs=10,
    epochs=8,
    batch_size=32,
    hidden=128,
    dropout=0.3,
    learning_rate=2e-3,
    backbone_learning_rate_ratio=0.5,
    augmentation_passes=2,
    augmentation=AugmentationOptions(
        crop_scale=(0.75, 1.0),
        crop_ratio=(0.85, 1.18),
        horizontal_flip=0.0,
        rotation_degrees=10.0,
        shear=0.1,
        jitter=0.0,
        mean=CENTRE,
        std=SPREAD,
        **GREY,
    ),
)


def encoder(collection: Collection, epochs: int) -> ConvBlocks:
    """The encoder of an autoencoder that was trained on everything but the test split, from the cache where it is."""
    kept = CACHE / f"{collection.name}-encoder-{len(collection.pool())}-epochs{epochs}.safetensors"
    if not kept.is_file():
        write_bytes(kept, save(train_autoencoder(collection, epochs)))
    backbone = ConvBlocks()
    backbone.load_state_dict(load_file(kept))
    return backbone.eval()


def train_autoencoder(collection: Collection, epochs: int) -> dict[str, torch.Tensor]:
    """Train to reconstruct; the encoder's weights."""
    device = best_device()
    torch.manual_seed(RECONSTRUCTION.seed)
    with tempfile.TemporaryDirectory() as place:
        trainer = AutoencoderTrainer(
            Autoencoder(DESIGN),
            pack(Path(place) / "images", collection, {"train": collection.pool()}),
            replace(RECONSTRUCTION, epochs=epochs),
            device=device,
            precision=resolve_precision("auto", device),
        )
        trainer.fit(Path(place), report=lambda record: None)
    weights = trainer.network.state_dict()
    return {name: each.cpu().contiguous() for name, each in weights.items() if name.startswith("encoder.")}


def accuracy(splits: LabelledSplits, backbone: ConvBlocks, options: ClassifierOptions) -> tuple[float, float]:
    """Train a classifier; its accuracy on the test split, and the best of the head alone on the validation split."""
    device = best_device()
    trainer = ClassifierTrainer(backbone, splits, options, device=device, precision=resolve_precision("auto", device))
    trained = trainer.train()
    chances = predict(trained.classifier, splits.images, splits.test, options.augmentation)
    alone = [epoch.valid_accuracy for epoch in trained.epochs if epoch.number <= options.head_epochs]
    return float((chances.argmax(axis=1) == splits.targets[splits.test]).mean()), max(alone, default=0.0)


def measure(collection: Collection, seeds: int, epochs: int, *, peer: bool) -> dict[str, list[float]]:
    """Accuracy with each seed: of the head alone (validation), of all layers after it, and from random weights."""
    found: dict[str, list[float]] = {"head alone": [], "all layers": [], "from scratch": []}
    with tempfile.TemporaryDirectory() as place:
        splits = divided(Path(place) / "images", collection)
        for seed in range(seeds):
            whole = replace(CLASSIFICATION, epochs=epochs, seed=seed)
            tested, alone = accuracy(splits, encoder(collection, RECONSTRUCTION.epochs), whole)
            found["head alone"].append(alone)
            found["all layers"].append(tested)
            print(f"seed {seed}: head alone {alone:.4f} (validation), all layers {tested:.4f}", flush=True)
            if peer:
                torch.manual_seed(seed)
                scratch = replace(whole, head_epochs=0, backbone_learning_rate_ratio=1.0)
                found["from scratch"].append(accuracy(splits, ConvBlocks(), scratch)[0])
    return {name: values for name, values in found.items() if values}


def divided(folder: Path, collection: Collection) -> LabelledSplits:
    """A tenth of what isn't for the test chooses the epoch."""
    pool = collection.pool()
    valid = pool[held_out(collection.labels[pool], 0.1)]
    return LabelledSplits.of(
        pack(folder, collection, {"train": np.setdiff1d(pool, valid), "valid": valid, "test": collection.test})
    )


def part_of(collection: Collection, count: int) -> Collection:
    """So many of the photos, the same part of every class."""
    chosen = held_out(collection.labels, count / len(collection.labels))
    labels = collection.labels[chosen]
    return replace(collection, images=collection.images[chosen], labels=labels, test=held_out(labels, 0.2))


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=CLASSIFICATION.epochs, help="of all layers")
    parser.add_argument("--peer", action="store_true", help="train from random weights, too")
    parser.add_argument("--quick", action="store_true", help="1,000 digits, 2 epochs, one seed, with the peer")
    given = parser.parse_args()
    collection = part_of(mnist10k(), 1_000) if given.quick else mnist10k()
    seeds, epochs = (1, 2) if given.quick else (given.seeds, given.epochs)
    found = measure(collection, seeds, epochs, peer=given.peer or given.quick)
    for name, values in found.items():
        told = ", ".join(f"{value:.4f}" for value in values)
        print(f"{name:<14}{statistics.median(values):.4f}   ({told})")
    result = {
        "name": f"accuracy on {len(collection.test):,} of {len(collection.labels):,} MNIST digits",
        "peer": "an earlier system that learned from 60,000 digits",
        "accuracy": round(statistics.median(found["all layers"]), 4),
        "head_alone_validation": round(statistics.median(found["head alone"]), 4),
        "seeds": seeds,
        "goal": GOAL,
    }
    if "from scratch" in found:
        result["from_scratch"] = round(statistics.median(found["from scratch"]), 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
