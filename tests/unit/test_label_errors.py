"""Suspected labels: planted errors in real digits are found, votes of others count, and the taxonomy is heeded."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from sparsight.evaluation.label_errors import find_label_errors, list_suspects, no_suspects
from sparsight.training.classifier import ClassifierOptions
from sparsight.training.cross_validation import cross_validate, deal_folds

CLASSES = [f"digit/{number}" for number in range(10)]


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """True classes of real digits, the same with 5 % of them wrong, and what heads say that are trained on these."""
    pixels, truth = load_digits(return_X_y=True)
    pixels, truth = pixels[:800].astype(np.float32), truth[:800].astype(np.int64)
    rng = np.random.default_rng(0)
    given = truth.copy()
    planted = rng.choice(len(truth), len(truth) // 20, replace=False)
    given[planted] = (truth[planted] + rng.integers(1, 10, len(planted))) % 10
    folds = deal_folds([str(number) for number in range(len(truth))], given.astype(str).tolist(), 5)
    options = ClassifierOptions(epochs=20, batch_size=64, hidden=64)
    return truth, given, cross_validate(pixels, given, folds, options)


def names(classes: NDArray[np.int64]) -> list[str]:
    return [CLASSES[number] for number in classes]


def test_planted_errors_are_found(digits) -> None:
    """By chance, 5 % of what is suspected would be wrong."""
    truth, given, chances = digits
    found = find_label_errors(names(given), CLASSES, chances)
    wrong, suspected = truth != given, found["suspected"].to_numpy()
    assert wrong[suspected].mean() >= 0.7
    assert suspected[wrong].mean() >= 0.8
    hits = found["suggested"].to_numpy() == np.array(names(truth))
    assert hits[suspected & wrong].mean() >= 0.9
    assert found["label"].tolist() == names(given)
    assert found["quality"].between(0, 1).all()


def test_votes_of_others_count(digits) -> None:
    """Of two equal doubts of the model, the one about a label that two more people gave is the smaller."""
    _, given, chances = digits
    labels = names(given)
    alone = [{"ann": [label]} for label in labels]
    assert find_label_errors(labels, CLASSES, chances, alone).equals(find_label_errors(labels, CLASSES, chances))
    backed = [
        {who: [label] for who in ("ann", "bob", "cem")} if number % 2 else {"ann": [label]}
        for number, label in enumerate(labels)
    ]
    found = find_label_errors(labels, CLASSES, chances, backed)
    doubted = (chances[np.arange(len(given)), given] < 0.2).nonzero()[0]
    quality = found["quality"].to_numpy()
    assert quality[doubted[doubted % 2 == 1]].min() > quality[doubted[doubted % 2 == 0]].max()
    assert found["suspected"][1::2].sum() < found["suspected"][::2].sum()


def certain(numbers: Sequence[int], classes: int) -> NDArray[np.float32]:
    return np.full((len(numbers), classes), 0.02 / (classes - 1), np.float32) + 0.98 * np.eye(classes)[list(numbers)]


def test_a_label_does_not_contradict_those_above_and_below_it() -> None:
    classes = ["cat/siamese", "dog", "dog/poodle"]
    labels = ["dog"] * 20 + ["dog/poodle"] * 20 + ["cat/siamese"] * 20
    says = [2] * 3 + [1] * 17 + [1] * 3 + [2] * 17 + [2] * 3 + [0] * 17
    found = find_label_errors(labels, classes, certain(says, 3))
    assert found.index[found["suspected"]].tolist() == [40, 41, 42]
    assert set(found["suggested"][:40]) == {"cat/siamese"}
    assert (found["suggested"][40:43] == "dog/poodle").all()


def test_votes_are_taken_as_the_nearest_class_above() -> None:
    """Two say something below the label, so they are for it; a vote for what is no class doesn't speak."""
    labels = ["dog", "cat"] * 10
    said = [{"ann": [label], "bob": [label]} for label in labels]
    said[0] = {"ann": ["dog/poodle"], "bob": ["dog/boxer"], "cem": ["fish"]}
    found = find_label_errors(labels, ["cat", "dog"], certain([1, 0] * 10, 2), said)
    assert found["quality"].nunique() == 1
    assert not found["suspected"].any()


def test_suspects_are_listed_with_the_worst_first() -> None:
    found = pd.DataFrame(
        {
            "label": ["dog", "cat", "cat"],
            "suggested": ["cat", "dog", "dog"],
            "quality": [0.3, 0.9, 0.1],
            "probability": [0.6, 0.05, 0.8],
            "suspected": [True, False, True],
        }
    )
    photos = pd.DataFrame({"container": "pets", "id": ["u", "v", "w"], "uri": ["p/u", "p/v", "p/w"], "split": "train"})
    listed = list_suspects(found, photos, [{"ann": ["dog"]}, {}, {"bob": ["cat"], "ann": ["dog"]}])
    assert listed[["rank", "id", "label", "suggested"]].to_numpy().tolist() == [
        [1, "w", "cat", "dog"],
        [2, "u", "dog", "cat"],
    ]
    assert json.loads(listed["said"][0]) == {"bob": ["cat"], "ann": ["dog"]}
    assert list(no_suspects().columns) == list(listed.columns)
