"""How many labels the labelling loop needs to be as good as random labelling with 1,000.

A narrow ResNet is pre-trained with MoCo v2 on every photo outside the test split (its weights are kept in the user's
cache), and stays frozen. Simulated annotators know the true labels and err in 5 % of cases; one label costs one unit.
Each round sends 50 photos to one of three of them and trains a head, a logistic regression, on all that was said:

    random       photos at random
    loop         first TypiClust's, then MaxHerding's among those that the head is unsure of
    unsure       first TypiClust's, then k-means' among the photos that the head is least sure of
    badge        first TypiClust's, then BADGE's

Scores are macro F1 on the test split, whose labels are true, mean over seeds. What is needed is read off the curve,
between two rounds on a straight line; of curves that don't get there up to 1,000 labels it isn't told.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from common.features import Features, ask, embed
from common.photo_sets import asked_for
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from sparsight.data.annotators import SimulatedAnnotator
from sparsight.selection.pool import Pool
from sparsight.selection.strategies import STRATEGIES

STEP = 50
MOST = 1_000
ERRORS = 0.05
LOOPS = {"loop": "max_herding", "unsure": "kmeans", "badge": "badge"}


class Crowd:
    """Three annotators, each of whom labels every third photo."""

    def __init__(self, features: Features, seed: int) -> None:
        labels = [(str(label),) for label in np.unique(features.labels)]
        self._features = features
        self._people = [
            SimulatedAnnotator(name=f"annotator-{number}", labels=labels, error_rate=ERRORS, seed=seed)
            for number in range(3)
        ]

    def say(self, chosen: NDArray[np.int64]) -> NDArray[np.str_]:
        """Label some photos."""
        truth = self._features.labels[chosen]
        said = [
            self._people[row % 3].says(str(row), (str(label),))[0] for row, label in zip(chosen, truth, strict=True)
        ]
        return np.array(said)


def rounds(features: Features, name: str, seed: int, most: int) -> Iterator[tuple[int, float]]:
    """Yield the number of labels and the macro F1 after each round."""
    crowd = Crowd(features, seed)
    order = np.random.default_rng(seed).permutation(len(features.pool))
    chosen = order[:STEP] if name == "random" else STRATEGIES["typiclust"](Pool(values=features.pool), STEP, seed)
    while True:
        head = features.head(chosen, crowd.say(chosen))
        yield len(chosen), float(f1_score(features.truth, head.predict(features.test), average="macro"))
        if len(chosen) >= most:
            return
        if name == "random":
            chosen = order[: len(chosen) + STEP]
        else:
            chosen = np.concatenate([chosen, ask(features, chosen, head, STEP, seed, LOOPS[name])])


def measure(features: Features, seeds: int, most: int) -> pd.DataFrame:
    """Scores by name, labels and seed."""
    rows = []
    for seed in range(seeds):
        for name in ("random", *LOOPS):
            rows += [
                {"name": name, "labels": labels, "seed": seed, "f1": score}
                for labels, score in rounds(features, name, seed, most)
            ]
        print(f"seed {seed + 1} of {seeds} done", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def labels_needed(curve: pd.Series, score: float) -> int | None:
    """Where a curve, by labels, first reaches a score."""
    reached = np.flatnonzero(curve.to_numpy() >= score)
    if not len(reached):
        return None
    at = int(reached[0])
    if not at:
        return int(curve.index[0])
    before, after = curve.iloc[at - 1], curve.iloc[at]
    return int(np.ceil(curve.index[at - 1] + STEP * (score - before) / (after - before)))


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="ZIP archive of CIFAR-10's photos; without it digits are taken")
    parser.add_argument("--large", action="store_true", help="all of CIFAR-10, and a ResNet-18 (pre-train it on a GPU)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="of pre-training; by default the recipe's")
    parser.add_argument("--quick", action="store_true", help="digits, 2 epochs, 1 seed, up to 200 labels")
    given = parser.parse_args()
    collection = asked_for(None if given.quick else given.cifar10, large=given.large)
    epochs = 2 if given.quick else given.epochs or collection.recipe.epochs
    most = 200 if given.quick else MOST
    found = measure(embed(collection, epochs), 1 if given.quick else given.seeds, most)
    means = found.groupby(["labels", "name"])["f1"].mean().unstack()[["random", *LOOPS]]
    print(f"{collection.name}: macro F1 by labels\n{means.round(3).to_string()}")
    target = float(means["random"].iloc[-1])
    needed = {name: labels_needed(means[name], target) for name in LOOPS}
    best = min((count for count in needed.values() if count), default=None)
    result = {
        "name": f"labels needed for the macro F1 of {most:,} random ones, {collection.name}",
        "peer": f"{most:,} labels at random, macro F1 {target:.3f}",
        "labels": needed,
        "ratio": round(most / best, 2) if best else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
