"""What a taxonomy is worth: hierarchical classifiers against a flat one, on the same embeddings and the same labels.

Solar cells have two levels of their own (type of cell, then functional or defective); CIFAR-10's ten classes get
animals and vehicles above them. A narrow ResNet is pre-trained with MoCo v2 on every photo outside the test split (its
weights are kept in the user's cache) and stays frozen. For each seed, heads learn the same labelled photos, a fifth of
which chooses the epoch and calibrates:

    flat         one class for each leaf, most probable one
    leaves       the same head, the leaf whose expected distance to the truth is least
    per parent   a choice among the children of each parent, most probable way down to a leaf
    distance     the same heads, the leaf whose expected distance to the truth is least
    confident    the same heads, down to the deepest node that is at least half sure

hF is hierarchical F1, severity the mean height of the lowest common ancestor over errors; lower is better, 1 is a
sibling taken for another. The claim is the difference of `distance` to `flat`, of the same seed, mean and standard
deviation.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common.photo_sets import MEAN, STD, Collection, choose, cifar10, describe, elpv, pack, pretrained

from sparsight.evaluation.hierarchy import evaluate_hierarchy
from sparsight.models.folder import ModelDescription, Preprocessing
from sparsight.models.labelling import Labeller
from sparsight.training.calibration import calibrated
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer, logits_of
from sparsight.training.labelled import LabelledSplits
from sparsight.training.targets import describe_hierarchy

VEHICLES = ("airplane", "automobile", "ship", "truck")
VARIANTS = {
    "flat": ("none", "confident", 0.0),
    "leaves": ("leaves", "expected_distance", 0.0),
    "per parent": ("per_parent", "confident", 0.0),
    "distance": ("per_parent", "expected_distance", 0.0),
    "confident": ("per_parent", "confident", 0.5),
}
"""Name: hierarchy, decision, threshold."""
CLAIMED = "distance"


def two_levels(collection: Collection) -> Collection:
    """CIFAR-10 with animals and vehicles above its classes."""
    labels = [f"{'vehicle' if label in VEHICLES else 'animal'}/{label}" for label in collection.labels]
    return replace(collection, labels=np.array(labels))


def measure(collection: Collection, labels: int, seed: int, backbone: torch.nn.Module) -> Iterator[dict[str, object]]:
    """Yield hF, severity and accuracy of each variant, for one seed."""
    chosen = choose(collection, labels, seed)
    splits = {"train": np.setdiff1d(chosen, chosen[::5]), "valid": chosen[::5], "test": collection.test}
    with tempfile.TemporaryDirectory() as place:
        found = LabelledSplits.of(pack(Path(place) / "images", collection, splits))
        learned = {
            hierarchy: train(collection, found, hierarchy, seed, backbone)
            for hierarchy in dict.fromkeys(hierarchy for hierarchy, *_ in VARIANTS.values())
        }
    truth = found.labels[found.test].tolist()
    for name, (hierarchy, decision, threshold) in VARIANTS.items():
        logits, description = learned[hierarchy]
        if description.hierarchy is not None:
            update = {"decision": decision, "threshold": threshold}
            changed = description.hierarchy.model_copy(update=update)
            description = description.model_copy(update={"hierarchy": changed})
        labeller = Labeller(description)
        predicted = [labeller.label(number) for number in labeller.read(logits).chosen]
        metrics = evaluate_hierarchy(truth, predicted, found.classes)
        yield {
            "collection": collection.name,
            "seed": seed,
            "variant": name,
            "hF": metrics.f1,
            "severity": metrics.mistake_severity,
            "accuracy": float(np.mean([one == other for one, other in zip(truth, predicted, strict=True)])),
        }


def train(
    collection: Collection, found: LabelledSplits, hierarchy: str, seed: int, backbone: torch.nn.Module
) -> tuple[torch.Tensor, ModelDescription]:
    """Train a head; gives logits of the test split, and what they mean."""
    options = ClassifierOptions(
        balance="oversample", augmentation=collection.recipe.labelled, hierarchy=hierarchy, seed=seed
    )
    trainer = ClassifierTrainer(backbone, found, options, device=torch.device("cpu"), precision=torch.float32)
    classifier = trainer.train().classifier
    description = ModelDescription(
        kind="classifier",
        backbone=describe(collection),
        hierarchy=describe_hierarchy(trainer.labels, decision="confident", threshold=0.0, reject=[]),
        classes=trainer.labels.outputs,
        preprocessing=Preprocessing(image_size=found.images.size[0], resize="squash", mean=MEAN, std=STD),
    )
    if calibration := calibrated(classifier, found, options):
        description = calibration.put_into(description)
    return logits_of(classifier, found.images, found.test, options.augmentation), description


def table(results: pd.DataFrame) -> str:
    """Mean and standard deviation over seeds, a line for each variant."""
    lines = [f"{'collection':<10} {'variant':<12}{'hF':>16}{'severity':>16}{'accuracy':>16}"]
    for (collection, variant), part in results.groupby(["collection", "variant"], sort=False):
        cells = [f"{part[name].mean():.3f} ± {part[name].std():.3f}" for name in ("hF", "severity", "accuracy")]
        lines.append(f"{collection:<10} {variant:<12}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def differences(results: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation of the claimed variant less `flat` with the same seed, by collection and metric."""
    by_seed = results.pivot(index=["collection", "seed"], columns="variant", values=["hF", "severity"])
    found: dict[str, dict[str, list[float]]] = {}
    for name in ("hF", "severity"):
        difference = by_seed[name][CLAIMED] - by_seed[name]["flat"]
        for collection, part in difference.groupby(level="collection"):
            found.setdefault(str(collection), {})[name] = [round(part.mean(), 3), round(part.std(), 3)]
    return found


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="ZIP archive of CIFAR-10's photos; without it solar cells alone")
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="solar cells, 2 epochs of pre-training, 2 seeds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    collections = [elpv()]
    if given.cifar10 and not given.quick:
        collections.append(two_levels(cifar10(given.cifar10)))
    rows = []
    for collection in collections:
        backbone = pretrained(collection, 0, 2 if given.quick else collection.recipe.epochs)
        for seed in range(2 if given.quick else given.seeds):
            rows += measure(collection, given.labels, seed, backbone)
    results = pd.DataFrame(rows)
    print(f"{given.labels} labels\n{table(results)}")
    result = {
        "name": f"{CLAIMED} less flat: mean and standard deviation over seeds",
        "peer": "a flat head on the same embeddings and labels",
        "difference": differences(results),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
