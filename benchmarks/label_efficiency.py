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
two hours, most of it pre-training, whose weights are kept in the user's cache. With `--results FILE` each result is
kept there as it comes, and what it holds already isn't done again.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common.photo_sets import Collection, choose, cifar10, describe, digits, elpv, pack, pretrained, views
from sklearn.metrics import f1_score

from sparsight.models.backbones import create_backbone
from sparsight.models.precision import best_device, resolve_precision
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer, predict
from sparsight.training.labelled import LabelledSplits

PEERS = ("random", "scratch", "augmented")
PLAIN = views(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), horizontal_flip=0.0, jitter=0.0, greyscale=0.0, blur=0.0)


def classifiers(
    collection: Collection, learned: torch.nn.Module, seed: int
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
            backbone.load_state_dict(learned.state_dict())
        yield name, backbone, chosen


def compare(
    collection: Collection, labels: Sequence[int], seed: int, epochs: int, *, hold_out: bool
) -> Iterator[dict[str, Any]]:
    """Yield the test macro F1 of each classifier at each number of labels, for one seed."""
    device = best_device()
    learned = pretrained(collection, seed, epochs)
    with tempfile.TemporaryDirectory() as place:
        for count in labels:
            chosen = choose(collection, count, seed)
            valid = chosen[::5] if hold_out else chosen[:0]
            splits = {"train": np.setdiff1d(chosen, valid), "valid": valid, "test": collection.test}
            images = pack(Path(place) / f"labels-{count}", collection, splits)
            for name, backbone, options in classifiers(collection, learned, seed):
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
