"""Agreement between annotators against its definitions, written out, and against published examples."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.data.labels import at_level, deepest, join_path, split_path
from sparsight.evaluation.agreement import measure_agreement
from sparsight.evaluation.annotators import (
    NOTHING,
    confusion_by_label,
    confusion_by_pair,
    match,
    measure_annotators,
    measure_pairs,
)
from sparsight.evaluation.votes import Votes, levels_of

Said = dict[str, dict[str, frozenset[tuple[str, ...]]]]
"""Photo -> annotator -> label paths."""
PATHS = ["dog", "dog/poodle", "dog/boxer", "cat/siamese", "cat/persian", "cat/persian/old"]


def table(rows: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Annotations of (photo, annotator, label)."""
    frame = pd.DataFrame(rows, columns=["id", "annotator", "label"], dtype=str)
    return frame.assign(container="photos", uri="photos/x", reviewed=False)


ANNOTATIONS = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.sampled_from(["ann", "bob", "cem", "dee"]), st.sampled_from(PATHS)),
    min_size=1,
    max_size=40,
).map(table)


def said_at(annotations: pd.DataFrame, level: int) -> Said:
    """What was said, by the book: one vote of an annotator for each photo, as a set."""
    named: dict[str, dict[str, set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    for row in annotations.itertuples():
        if cut := at_level(split_path(str(row.label)), level):
            named[str(row.id)][str(row.annotator)].add(cut)
    return {photo: {who: frozenset(deepest(paths)) for who, paths in votes.items()} for photo, votes in named.items()}


def nodes(paths: frozenset[tuple[str, ...]]) -> frozenset[tuple[str, ...]]:
    return frozenset(path[:depth] for path in paths for depth in range(1, len(path) + 1))


def jaccard(one: frozenset, other: frozenset) -> float:
    return 1 - len(nodes(one) & nodes(other)) / len(nodes(one) | nodes(other))


def masi(one: frozenset, other: frozenset) -> float:
    a, b = nodes(one), nodes(other)
    monotony = 1.0 if a == b else 2 / 3 if a <= b or b <= a else 1 / 3 if a & b else 0.0
    return 1 - (1 - jaccard(one, other)) * monotony


def nominal(one: object, other: object) -> float:
    return float(one != other)


def literal_alpha(units: Sequence[Sequence], distance: Callable) -> float:
    """Krippendorff's alpha: one less the ratio of disagreement seen within units to that among all values."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    if not values:
        return math.nan
    seen = sum(
        sum(distance(a, b) for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    ) / len(values)
    expected = sum(distance(a, b) for a, b in itertools.permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - seen / expected if expected else math.nan


def close(value: float, expected: float) -> bool:
    return (math.isnan(value) and math.isnan(expected)) or value == pytest.approx(expected)


@settings(max_examples=60)
@given(ANNOTATIONS, st.integers(0, 3))
def test_alpha_is_what_its_definition_says(annotations: pd.DataFrame, level: int) -> None:
    said = said_at(annotations, level)
    units = [[*votes.values()] for votes in said.values()]
    found = measure_agreement(Votes.of(annotations, level), resamples=0)
    for name, distance in (("nominal", nominal), ("jaccard", jaccard), ("masi", masi)):
        alpha = found.overall.set_index("distance")["alpha"][name]
        assert close(alpha, literal_alpha(units, distance)), name
    for row in found.classes.itertuples():
        against_rest = [[split_path(str(row.label)) in value for value in unit] for unit in units]
        assert close(row.alpha, literal_alpha(against_rest, nominal)), row.label
        assert row.photos == sum(any(unit) for unit in against_rest if len(unit) > 1)
        assert row.votes == sum(sum(unit) for unit in against_rest if len(unit) > 1)
    assert found.photos == sum(len(unit) > 1 for unit in units)


def literal_kappa(pairs: Sequence[tuple]) -> float:
    agreement = sum(a == b for a, b in pairs) / len(pairs)
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    chance = sum(ours.count(value) * theirs.count(value) for value in set(ours)) / len(pairs) ** 2
    return (agreement - chance) / (1 - chance) if chance < 1 else math.nan


@settings(max_examples=60)
@given(ANNOTATIONS, st.integers(0, 2))
def test_kappa_is_what_its_definition_says(annotations: pd.DataFrame, level: int) -> None:
    said = said_at(annotations, level)
    found = measure_pairs(Votes.of(annotations, level)).set_index(["annotator", "other"])
    people = sorted({who for votes in said.values() for who in votes})
    expected = 0
    for one, other in itertools.combinations(people, 2):
        both = [(votes[one], votes[other]) for votes in said.values() if one in votes and other in votes]
        if both:
            expected += 1
            row = found.loc[(one, other)]
            assert row["photos"] == len(both)
            assert row["agreement"] == pytest.approx(sum(a == b for a, b in both) / len(both))
            assert close(row["kappa"], literal_kappa(both))
    assert len(found) == expected


@settings(max_examples=60)
@given(ANNOTATIONS, st.integers(0, 2))
def test_each_annotator_is_held_against_the_majority_of_the_others(annotations: pd.DataFrame, level: int) -> None:
    said = said_at(annotations, level)
    found = measure_annotators(Votes.of(annotations, level)).set_index("annotator")
    for who, row in found.iterrows():
        right = compared = 0
        for votes in said.values():
            others = [labels for other, labels in votes.items() if other != who]
            named = {path for labels in others for path in labels}
            majority = {path for path in named if 2 * sum(path in labels for labels in others) > len(others)}
            if who in votes and majority:
                compared += 1
                right += votes[who] == majority
        assert row["photos"] == sum(who in votes for votes in said.values())
        assert row["compared"] == compared
        assert close(row["agreement"], right / compared if compared else math.nan)


@settings(max_examples=60)
@given(ANNOTATIONS, st.integers(0, 2))
def test_confusions_count_every_pair_once(annotations: pd.DataFrame, level: int) -> None:
    said = said_at(annotations, level)
    votes = Votes.of(annotations, level)
    symmetric: dict[tuple[str, str], float] = defaultdict(float)
    by_pair: dict[tuple[str, str, str, str], float] = defaultdict(float)
    for given_here in said.values():
        for one, other in itertools.permutations(sorted(given_here), 2):
            a, b = (sorted(map(join_path, given_here[who])) for who in (one, other))
            for label, against, part in match(a, b):
                if label != NOTHING:
                    symmetric[label, against] += part / (len(given_here) - 1)
                if one < other:
                    by_pair[one, other, label, against] += part
    found = confusion_by_label(votes).set_index(["label", "other"])["count"].to_dict()
    assert found == pytest.approx(dict(symmetric))
    columns = ["annotator", "other_annotator", "label", "other"]
    assert confusion_by_pair(votes).set_index(columns)["count"].to_dict() == pytest.approx(dict(by_pair))


@pytest.mark.parametrize(
    ("labels", "others", "expected"),
    [
        (["a"], ["a"], [("a", "a", 1)]),
        (["a"], ["b"], [("a", "b", 1)]),
        (["a", "b"], ["a"], [("a", "a", 1 / 2), ("b", NOTHING, 1 / 2)]),
        (["a", "b"], ["a", "c", "d"], [("a", "a", 1 / 3), ("b", "c", 1 / 3), ("b", "d", 1 / 3)]),
    ],
)
def test_sets_are_matched(labels: list[str], others: list[str], expected: list[tuple[str, str, float]]) -> None:
    assert match(labels, others) == [(a, b, pytest.approx(part)) for a, b, part in expected]


def test_krippendorffs_own_example() -> None:
    """Krippendorff 2011, part C: four observers, twelve units, missing data; alpha of nominal data is 0.743."""
    observers = {
        "A": "1 2 3 3 2 1 4 1 2 . . .",
        "B": "1 2 3 3 2 2 4 1 2 5 . 3",
        "C": ". 3 3 3 2 3 4 2 2 5 1 .",
        "D": "1 2 3 3 2 4 4 1 2 5 1 .",
    }
    rows = [
        (f"{unit:02d}", name, value)
        for name, values in observers.items()
        for unit, value in enumerate(values.split())
        if value != "."
    ]
    alpha = measure_agreement(Votes.of(table(rows), 0), resamples=0).overall["alpha"]
    assert alpha.tolist() == pytest.approx([0.743] * 3, abs=5e-4)


def test_the_interval_is_that_of_chance_in_the_choice_of_photos() -> None:
    """Over samples of photos, alpha spreads as the bootstrap of one of them says."""
    rng = np.random.default_rng(0)

    def sample(photos: int) -> pd.DataFrame:
        truth = rng.integers(0, 4, photos)
        rows = [
            (f"{photo}", who, f"{label if rng.random() < 0.8 else rng.integers(0, 4)}")
            for photo, label in enumerate(truth)
            for who in ("ann", "bob")
        ]
        return table(rows)

    alphas = [measure_agreement(Votes.of(sample(60), 0), resamples=0).overall["alpha"][0] for _ in range(100)]
    spread = np.percentile(alphas, 97.5) - np.percentile(alphas, 2.5)
    row = measure_agreement(Votes.of(sample(60), 0)).overall.iloc[0]
    assert row["low"] < row["alpha"] < row["high"]
    assert 0.6 < (row["high"] - row["low"]) / spread < 1.6


def test_agreement_without_anything_to_compare_is_unknown() -> None:
    alone = measure_agreement(Votes.of(table([("u", "ann", "dog"), ("v", "bob", "cat")]), 0))
    assert (alone.photos, alone.votes, len(alone.classes)) == (0, 0, 0)
    assert alone.overall["alpha"].isna().all()
    same = measure_agreement(Votes.of(table([("u", "ann", "dog"), ("u", "bob", "dog")]), 0), resamples=10)
    assert (same.photos, same.votes) == (1, 2)
    assert same.overall[["alpha", "low", "high"]].isna().all(axis=None)
    nobody = Votes.of(table([("u", "ann", "dog")]), 3)
    assert len(nobody) == 0
    assert all(len(measure(nobody)) == 0 for measure in (measure_pairs, measure_annotators, confusion_by_label))


def test_equal_seeds_give_equal_intervals() -> None:
    rows = [(f"{n % 30}", f"{n % 3}", f"{n * 7 % 4}") for n in range(90)]
    one, two = (measure_agreement(Votes.of(table(rows), 0), resamples=50) for _ in range(2))
    assert one.overall.equals(two.overall)
    assert one.classes.equals(two.classes)


def test_ids_of_two_containers_are_two_photos() -> None:
    rows = table([("u", "ann", "dog"), ("u", "bob", "cat")])
    assert measure_agreement(Votes.of(rows, 0), resamples=0).photos == 1
    rows["container"] = ["photos", "more"]
    assert measure_agreement(Votes.of(rows, 0), resamples=0).photos == 0


def test_levels_go_down_to_the_deepest_label_and_end_with_the_whole_path() -> None:
    assert levels_of(PATHS) == [1, 2, 3, 0]
    assert levels_of([]) == [0]
