"""What farthest points are worth to a network trained from scratch: a ResNet-18 on a tenth of CIFAR-10.

On photos chosen by a strategy among MoCo v2 embeddings, and on as many at random, a ResNet-18 with the stem for small
images is trained by SGD, at most so many epochs, with early stopping, and tested on the 10,000 test photos. The peer is
the random photos, seed by seed; a paired t-test says whether the difference is more than chance. A twentieth of the
photos outside the test split is held out for early stopping, chosen by nobody.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from common.photo_sets import Collection, asked_for, describe, embed, pack, pretrained

from sparsight.evaluation.sampling import Gain, Repeat
from sparsight.models.precision import best_device, resolve_precision
from sparsight.selection import select
from sparsight.training.labelled import LabelledSplits
from sparsight.training.probe import Probe


def measure(
    collection: Collection,
    pretraining: int,
    folder: Path,
    *,
    strategy: str,
    share: float,
    seeds: list[int],
    epochs: int,
) -> list[Repeat]:
    """Train on photos chosen after so many epochs of pre-training and on random ones, seed by seed."""
    order = np.random.default_rng(0).permutation(collection.pool())
    valid, train = np.split(order, [len(order) // 20])
    images = pack(folder / "images", collection, {"train": train, "valid": valid, "test": collection.test})
    embeddings = embed(pretrained(collection, 0, pretraining), collection.images[train])
    splits, device, budget = LabelledSplits.of(images), best_device(), round(share * len(order))
    probe = Probe(
        backbone=describe(collection),
        epochs=epochs,
        patience=15,
        batch_size=64,
        learning_rate=0.05,
        weight_decay=5e-4,
        crop_scale_min=0.6,
        horizontal_flip=collection.recipe.views.horizontal_flip,
        device=device,
        precision=resolve_precision("auto", device),
    )
    repeats = []
    for seed in seeds:
        chosen = select(embeddings, budget, strategy=strategy, metric="cosine", seed=seed).rows
        at_random = np.random.default_rng(seed).permutation(len(train))[:budget]
        accuracies = [probe.accuracy(splits, splits.train[rows], seed) for rows in (chosen, at_random)]
        repeats.append(Repeat(seed=seed, chosen=accuracies[0], at_random=accuracies[1]))
        print(json.dumps(asdict(repeats[-1])), flush=True)
    return repeats


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="ZIP archive of CIFAR-10's photos; without it digits are taken")
    parser.add_argument("--strategy", default="farthest_point")
    parser.add_argument("--share", type=float, default=0.1, help="of the photos outside the test split")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="digits, 2 seeds, 2 epochs, also of pre-training")
    given = parser.parse_args()
    if given.quick:
        given.cifar10, given.seeds, given.epochs = None, [0, 1], 2
    collection = asked_for(given.cifar10, large=True)
    with tempfile.TemporaryDirectory() as place:
        repeats = measure(
            collection,
            2 if given.quick else collection.recipe.epochs,
            Path(place),
            strategy=given.strategy,
            share=given.share,
            seeds=given.seeds,
            epochs=given.epochs,
        )
    gain = Gain.of(repeats)
    print(f"{given.strategy}, {given.share:.0%} of {collection.name}: {gain.verdict}")
    result = {
        "name": f"accuracy of {describe(collection).name} on {given.share:.0%} of {collection.name}, {given.strategy}",
        "peer": "as many photos at random",
        "device": str(best_device()),
        "repeats": len(repeats),
        "chosen": round(float(np.mean([each.chosen for each in repeats])), 4),
        "at_random": round(float(np.mean([each.at_random for each in repeats])), 4),
        "gain": round(gain.mean, 4),
        "gain_deviation": round(gain.deviation, 4),
        "p_value": gain.p_value,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
