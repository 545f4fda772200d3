"""What choosing is worth on few labels: every strategy against random, by a linear head on frozen features.

A narrow ResNet is pre-trained with MoCo v2 on every photo outside the test split; its weights are kept in the user's
cache. Of the pool's embeddings each strategy chooses 10, 50, 100, 500 and 1,000 photos, a logistic regression learns
their true labels, and its accuracy on the test split is compared with the same one's on as many random photos, seed by
seed. A strategy that goes by embeddings alone chooses each budget anew. One that asks a classifier (BADGE, and those
called `unsure`) goes on from the budget before, by the head trained on that, and begins with what TypiClust chooses.

`auto` is what `strategy: auto` takes at each budget. The claim: the gain over random of the best strategy at 10 and at
50 labels, and the least gain of `auto` at any budget.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from common.features import Features, ask, embed
from common.photo_sets import asked_for
from numpy.typing import NDArray

from sparsight.selection.pool import Pool
from sparsight.selection.strategies import STRATEGIES, resolve_strategy

BUDGETS = (10, 50, 100, 500, 1_000)
ALONE = ("random", "farthest_point", "typiclust", "max_herding", "prob_cover", "kmeans")
ASKING = {
    "badge": "badge",
    "unsure typiclust": "typiclust",
    "unsure kmeans": "kmeans",
    "unsure max_herding": "max_herding",
}
"""Strategies that ask a classifier, all but BADGE by its margin: the name here, and the one in Sparsight."""
FIRST = "typiclust"


def choose_all(features: Features, budgets: Sequence[int], seed: int) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    """Yield name, budget and what was chosen, for one seed."""
    first = {}
    for budget in budgets:
        for name in ALONE:
            chosen = STRATEGIES[name](Pool(values=features.pool), budget, seed)
            first.setdefault(name, chosen)
            yield name, budget, chosen
    for name, strategy in ASKING.items():
        chosen = first[FIRST]
        for budget in budgets[1:]:
            head = features.head(chosen, features.labels[chosen])
            chosen = np.concatenate([chosen, ask(features, chosen, head, budget - len(chosen), seed, strategy)])
            yield name, budget, chosen


def accuracy(features: Features, chosen: NDArray[np.int64]) -> float:
    """Of a head that has learned the labels of some, on the test split."""
    labels = features.labels[chosen]
    only = len(set(labels)) == 1
    predicted = labels[0] if only else features.head(chosen, labels).predict(features.test)
    return float((features.truth == predicted).mean())


def measure(features: Features, budgets: Sequence[int], seeds: int) -> pd.DataFrame:
    """Accuracy of each strategy at each budget and seed."""
    rows = []
    for seed in range(seeds):
        for name, budget, chosen in choose_all(features, budgets, seed):
            rows.append({"strategy": name, "labels": budget, "seed": seed, "accuracy": accuracy(features, chosen)})
        print(f"seed {seed + 1} of {seeds} done", file=sys.stderr, flush=True)
    found = pd.DataFrame(rows)
    taken = [
        found[(found["labels"] == each) & (found["strategy"] == resolve_strategy("auto", each)[0])] for each in budgets
    ]
    return pd.concat([found, pd.concat(taken).assign(strategy="auto")], ignore_index=True)


def gains(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy less random's with the same seed: mean and standard error, by strategy and budget."""
    by_seed = found.pivot(index=["labels", "seed"], columns="strategy", values="accuracy")
    differences = by_seed.sub(by_seed["random"], axis=0).stack().rename("gain").reset_index()
    return differences.groupby(["strategy", "labels"])["gain"].agg(["mean", "sem"])


def table(found: pd.DataFrame) -> str:
    """One line a strategy: mean accuracy at each budget, and the gain over random with its standard error."""
    budgets, gained = sorted(found["labels"].unique()), gains(found)
    lines = [f"{'strategy':<20}" + "".join(f"{budget:>22,}" for budget in budgets)]
    for name in found["strategy"].unique():
        cells = ""
        for budget in budgets:
            values = found[(found["strategy"] == name) & (found["labels"] == budget)]["accuracy"]
            if not len(values):
                cells += " " * 22
                continue
            mean, error = gained.loc[(name, budget)]
            cells += f"{values.mean():.3f} {mean:+.3f} ± {error:.3f}".rjust(22)
        lines.append(f"{name:<20}{cells}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="ZIP archive of CIFAR-10's photos; without it digits are taken")
    parser.add_argument("--large", action="store_true", help="all of CIFAR-10, and a ResNet-18 (pre-train it on a GPU)")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--most", type=int, default=max(BUDGETS), help="labels")
    parser.add_argument("--epochs", type=int, help="of pre-training; by default the recipe's")
    parser.add_argument(
        "--quick", action="store_true", help="digits, 2 epochs of pre-training, 2 seeds, up to 100 labels"
    )
    given = parser.parse_args()
    collection = asked_for(None if given.quick else given.cifar10, large=given.large)
    epochs = 2 if given.quick else given.epochs or collection.recipe.epochs
    budgets = [each for each in BUDGETS if each <= (100 if given.quick else given.most)]
    found = measure(embed(collection, epochs), budgets, 2 if given.quick else given.seeds)
    print(f"{collection.name}: accuracy, and gain over random ± standard error\n{table(found)}")
    means = gains(found)["mean"].unstack().drop(index="random")
    rest = means.drop(index="auto")
    result = {
        "name": f"few labels: gain in accuracy over random, {collection.name}",
        "peer": "as many photos at random",
        "gain": {
            f"{budget}": {"strategy": rest[budget].idxmax(), "gain": round(rest[budget].max(), 3)} for budget in budgets
        },
        "auto": {f"{budget}": round(means.loc["auto", budget], 3) for budget in budgets},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
