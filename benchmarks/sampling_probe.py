"""What farthest points are worth to a network trained from scratch: a ResNet-18 on a tenth of CIFAR-10.

On photos chosen by a strategy among MoCo v2 embeddings, and on as many at random, a ResNet-18 with the stem for small
images is trained by SGD, at most so many epochs, with early stopping, and tested on the 10,000 test photos. The peer is
the random photos, seed by seed; a paired t-test says whether the difference is more than chance. A twentieth of the
photos outside the test split is held out for early stopping, chosen by nobody.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common.photo_sets import Collection, asked_for, describe, embed, pack, pretrained

from sparsight.evaluation.sampling import Gain, Repeat
from sparsight.models.precision import best_device
from sparsight.steps.evaluate_sampling import Arguments, compare_with_random
from sparsight.training.labelled import LabelledSplits


def measure(collection: Collection, pretraining: int, folder: Path, **more: Any) -> list[Repeat]:
    """Train on photos chosen after so many epochs of pre-training and on random ones; `more` goes to the step."""
    order = np.random.default_rng(0).permutation(collection.pool())
    valid, train = np.split(order, [len(order) // 20])
    images = pack(folder / "images", collection, {"train": train, "valid": valid, "test": collection.test})
    embeddings = embed(pretrained(collection, 0, pretraining), collection.images[train])
    splits, backbone = LabelledSplits.of(images), describe(collection)
    arguments = Arguments(
        images=folder,
        embeddings=folder,
        evaluation=folder,
        backbone=backbone.name,
        small_image_stem="on" if backbone.small_image_stem else "off",
        horizontal_flip=collection.recipe.views.horizontal_flip,
        **more,
    )
    return list(compare_with_random(arguments, splits, splits.train, embeddings))


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="ZIP archive of CIFAR-10's photos; without it digits are taken")
    parser.add_argument("--strategy", default="farthest_point")
    parser.add_argument("--share", type=float, default=0.1, help="of the photos outside the test split")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="digits, 2 seeds, 2 epochs, also of pre-training")
    given = parser.parse_args()
    if given.quick:
        given.cifar10, given.seeds, given.epochs = None, 2, 2
    collection = asked_for(given.cifar10, large=True)
    with tempfile.TemporaryDirectory() as place:
        repeats = measure(
            collection,
            2 if given.quick else collection.recipe.epochs,
            Path(place),
            strategy=given.strategy,
            budget=round(given.share * len(collection.pool())),
            repeats=given.seeds,
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
