"""The list of photos whose annotators differ: who is on it, in which order, and what it says."""

import json
from collections import defaultdict
from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.evaluation.disagreements import LabelRule, list_disagreements

PATHS = ["dog", "dog/poodle", "dog/boxer", "cat/siamese", "cat/persian", "fish"]


def table(rows: Sequence[tuple[str, str, str]], reviewed: Sequence[str] = ()) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["id", "annotator", "label"])
    uris = "photos/" + frame["id"] + ".png"
    return frame.assign(container="photos", uri=uris, reviewed=frame["id"].isin(reviewed))


def votes(photo: str, *labels: str) -> list[tuple[str, str, str]]:
    return [(photo, f"ann{number}", label) for number, label in enumerate(labels)]


ROWS = table(
    [
        *votes("agreed", "dog/poodle", "dog/poodle"),
        *votes("alone", "dog/poodle"),
        *votes("outvoted", "cat/siamese", "dog/boxer", "dog/boxer"),
        *votes("near", "dog/poodle", "dog/boxer"),
        *votes("far", "dog/poodle", "cat/siamese"),
        *votes("three", "dog/poodle", "cat/siamese", "fish"),
        *votes("above", "dog", "dog/poodle"),
    ],
    reviewed=["near"],
)


def test_unsettled_photos_come_first_and_the_farthest_apart_lead() -> None:
    found = list_disagreements(ROWS, LabelRule())
    assert found["id"].tolist() == ["far", "three", "near", "above", "outvoted"]
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    by_id = found.set_index("id")
    # dog/poodle to cat/siamese is 4 edges, to fish 3, to dog/boxer 2, to dog 1.
    assert by_id["distance"].to_dict() == pytest.approx(
        {"far": 4, "three": (4 + 3 + 3) / 3, "near": 2, "above": 1, "outvoted": 4 * 2 / 3}
    )
    assert by_id["label"].to_dict() == {"far": "", "three": "", "near": "", "above": "", "outvoted": "dog/boxer"}
    assert set(by_id["reason"][["far", "three", "near"]]) == {"no majority among the annotators"}
    assert by_id["reviewed"].to_dict() == dict.fromkeys(by_id.index, False) | {"near": True}
    assert json.loads(by_id["said"]["outvoted"]) == {
        "ann0": ["cat/siamese"],
        "ann1": ["dog/boxer"],
        "ann2": ["dog/boxer"],
    }
    assert by_id["uri"]["far"] == "photos/far.png"


def test_the_rule_says_what_differs() -> None:
    first_level = list_disagreements(ROWS, LabelRule(taxonomy_level=1)).set_index("id")
    assert set(first_level.index) == {"outvoted", "far", "three"}
    agreed = list_disagreements(ROWS, LabelRule(label_depth="agreed")).set_index("id")
    assert agreed["label"]["near"] == "dog"
    several = list_disagreements(ROWS, LabelRule(label_policy="any", several_labels=True)).set_index("id")
    assert several["label"]["far"] == "cat/siamese|dog/poodle"
    of_dataset = LabelRule.of({"label_policy": "any", "taxonomy_level": 1, "containers": "photos"})
    assert of_dataset == LabelRule(label_policy="any", taxonomy_level=1)


def test_of_several_labels_each_is_as_far_as_the_nearest() -> None:
    rows = table([*votes("one", "dog/poodle", "dog/poodle"), ("one", "ann0", "fish"), *votes("two", "fish", "fish")])
    found = list_disagreements(rows, LabelRule())
    # poodle is met by poodle in both, fish is 3 edges from it.
    assert found["distance"].tolist() == [pytest.approx((0 + 0 + 3) / 3)]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abc"), st.sampled_from(PATHS)), max_size=30),
    st.sampled_from([0, 1, 2]),
    st.sampled_from(["whole", "agreed"]),
)
def test_just_the_photos_with_two_different_votes_are_listed(rows, level, depth) -> None:
    found = list_disagreements(table(rows), LabelRule(taxonomy_level=level, label_depth=depth))
    assert all(len({tuple(labels) for labels in json.loads(said).values()}) > 1 for said in found["said"])
    assert (found["distance"] > 0).all()
    assert found["label"].ne("").is_monotonic_increasing
    if level == 1:
        said: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for photo, who, label in rows:
            said[photo][who].add(label.split("/")[0])
        differ = {photo for photo, votes in said.items() if len({*map(frozenset, votes.values())}) > 1}
        assert set(found["id"]) == differ


def test_nothing_to_list() -> None:
    found = list_disagreements(table(votes("agreed", "dog", "dog")), LabelRule())
    assert len(found) == 0
    assert list(found.columns[:4]) == ["rank", "container", "id", "uri"]
