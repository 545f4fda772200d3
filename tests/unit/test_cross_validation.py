"""Out-of-sample predictions: how photos are dealt to folds, and that no head has seen what it judges."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsight.data.artefact import new_artefact
from sparsight.data.embeddings import EMBEDDINGS, INDEX, Embeddings
from sparsight.training.classifier import ClassifierOptions
from sparsight.training.cross_validation import cross_validate, deal_folds, judge_labels

QUICK = ClassifierOptions(epochs=20, batch_size=12, hidden=32)
LABELS = st.lists(st.sampled_from(["dog", "cat", "fish"]), min_size=1, max_size=60)


def names(count: int) -> list[str]:
    return [f"photo-{number}" for number in range(count)]


def write(folder: Path, values: NDArray[np.float32], labels: Sequence[str]) -> Embeddings:
    with new_artefact(folder, "embeddings", {}) as draft:
        np.save(draft.folder / EMBEDDINGS, values.astype(np.float32))
        index = pd.DataFrame({"id": names(len(labels)), "split": "train", "label": list(labels)})
        index.to_parquet(draft.folder / INDEX)
    return Embeddings(folder)


def clusters(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points around three corners, and which."""
    rng = np.random.default_rng(0)
    corner = np.arange(count) % 3
    return (4 * np.eye(3, 8)[corner] + rng.normal(size=(count, 8))).astype(np.float32), corner


@settings(max_examples=60)
@given(LABELS, st.integers(2, 6), st.integers(0, 3))
def test_folds_share_each_label_evenly_whatever_the_order(labels: list[str], folds: int, seed: int) -> None:
    keys = names(len(labels))
    dealt = deal_folds(keys, labels, folds, seed)
    for label in set(labels):
        shares = Counter(dealt[np.array(labels) == label].tolist())
        sizes = [shares.get(fold, 0) for fold in range(folds)]
        assert max(sizes) - min(sizes) <= 1
    whole = np.bincount(dealt, minlength=folds)
    assert whole.max() - whole.min() <= 1
    backwards = deal_folds(keys[::-1], labels[::-1], folds, seed)[::-1]
    assert (dealt == backwards).all()


@given(LABELS)
def test_copies_of_a_file_stay_together_also_under_different_labels(labels: list[str]) -> None:
    keys = [f"hash-{number % 7}" for number in range(len(labels))]
    dealt = deal_folds(keys, labels, 3)
    assert len({(key, fold) for key, fold in zip(keys, dealt.tolist(), strict=True)}) == len(set(keys))


def test_another_seed_deals_anew() -> None:
    labels = ["dog", "cat"] * 50
    assert (deal_folds(names(100), labels, 5, 0) != deal_folds(names(100), labels, 5, 1)).any()


def test_a_head_never_knows_the_label_it_judges() -> None:
    """Random labels on embeddings that tell each photo: by heart all could be known, out of sample none."""
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 4, 160)
    values = np.eye(160, dtype=np.float32)
    chances = cross_validate(values, targets, deal_folds(names(160), targets.astype(str).tolist(), 4), QUICK)
    assert chances.shape == (160, 4)
    assert chances.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (chances.argmax(axis=1) == targets).mean() < 0.45  # 0.25 by chance


def test_heads_learn_what_there_is_and_say_the_same_again() -> None:
    values, targets = clusters(150)
    folds = deal_folds(names(150), targets.astype(str).tolist(), 5)
    chances = cross_validate(values, targets, folds, QUICK)
    assert (chances.argmax(axis=1) == targets).mean() > 0.95
    assert (cross_validate(values, targets, folds, QUICK) == chances).all()


def test_all_labelled_photos_are_judged_but_those_that_cannot_be(tmp_path: Path) -> None:
    values, corner = clusters(60)
    labels = np.array(["dog", "cat/siamese", "cat/persian"], object)[corner]
    labels[:4] = ["", "fish", "fish", "cat/siamese|dog"]
    judged = judge_labels(write(tmp_path / "e", values, labels), {name: name for name in names(60)})
    assert judged is not None
    assert judged.rows.tolist() == [*range(4, 60)]
    assert judged.classes == ("cat/persian", "cat/siamese", "dog")
    assert judged.labels == tuple(labels[4:])
    assert judged.left_out == {"without a label": 1, "with several labels": 1, "of fish (fewer than 5)": 2}
    assert judged.accuracy > 0.95


def test_one_class_is_nothing_to_judge(tmp_path: Path) -> None:
    values, _ = clusters(20)
    embeddings = write(tmp_path / "e", values, ["dog"] * 18 + ["cat"] * 2)
    assert judge_labels(embeddings, {name: name for name in names(20)}) is None
