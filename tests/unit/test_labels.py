"""Label paths, and several annotators' votes becoming one label."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.labels import at_level, is_under, join_path, settle, split_path, votes_by_annotator

NAMES = st.text(min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)
LABELS = st.sampled_from([("a",), ("b",), ("c",)])
VOTES = st.dictionaries(st.text(max_size=2), st.sets(LABELS, min_size=1), max_size=6)


@given(PATHS)
def test_a_path_survives_being_written(path: tuple[str, ...]) -> None:
    assert split_path(join_path(path)) == path


@given(PATHS, PATHS)
def test_different_paths_are_written_differently(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (join_path(one) == join_path(other)) == (one == other)


def test_slash_and_percent_are_encoded() -> None:
    assert join_path(["AC/DC", "100 %"]) == "AC%2FDC/100 %25"
    assert split_path("it%27s/so") == ("it's", "so")
    assert split_path("") == ()


def test_levels() -> None:
    assert at_level(("dog", "poodle"), 1) == ("dog",)
    assert at_level(("dog", "poodle"), 0) == ("dog", "poodle")
    assert at_level(("dog",), 2) is None
    assert at_level((), 0) is None
    assert is_under(("dog", "poodle"), ("dog",))
    assert not is_under(("dog",), ("dog", "poodle"))
    assert not is_under(("dogfish",), ("dog",))


def test_annotations_of_one_annotator_are_united_and_shallow_ones_abstain() -> None:
    annotations = [("ann", [["dog", "poodle"]]), ("ann", [["cat"], ["dog", "boxer"]]), ("ben", [["cat"]])]
    assert votes_by_annotator(annotations, 2) == {"ann": {("dog", "poodle"), ("dog", "boxer")}}
    assert votes_by_annotator(annotations, 1) == {"ann": {("dog",), ("cat",)}, "ben": {("cat",)}}


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ("a", ("a", "a", "a")),
        ("a b", ("a", None, None)),
        ("b a b", ("b", "b", None)),
        ("a a a", ("a", "a", "a")),
        ("c b a", ("a", None, None)),
        ("ab ab", ("a", None, None)),
        ("ab a", ("a", "a", None)),
        ("", (None, None, None)),
    ],
)
def test_policies_by_example(votes: str, outcome: tuple[str | None, ...]) -> None:
    """One word for each annotator, one letter for each label given; outcomes of any, majority and unanimous."""
    by_annotator = {str(who): {(label,) for label in word} for who, word in enumerate(votes.split())}
    found = [settle(by_annotator, policy)[0] for policy in ("any", "majority", "unanimous")]
    assert found == [label and (label,) for label in outcome]


@given(VOTES)
def test_policies_as_defined(votes: dict[str, set[tuple[str, ...]]]) -> None:
    ballots = [label for labels in votes.values() for label in labels]
    named = {label: ballots.count(label) for label in ballots}
    best = [label for label in named if named[label] == max(named.values())]
    majority = [label for label in best if named[label] > len(votes) / 2]
    assert settle(votes, "any")[0] == (min(best) if best else None)
    assert settle(votes, "majority")[0] == (majority[0] if len(majority) == 1 else None)
    assert settle(votes, "unanimous")[0] == (ballots[0] if len(named) == 1 else None)


@given(VOTES, st.sampled_from(["any", "majority", "unanimous"]))
def test_there_is_a_label_or_a_reason(votes: dict[str, set[tuple[str, ...]]], policy: str) -> None:
    label, reason = settle(votes, policy)  # type: ignore[arg-type]
    assert (label is None) == bool(reason)


@given(VOTES)
def test_a_stricter_policy_never_says_otherwise(votes: dict[str, set[tuple[str, ...]]]) -> None:
    said = Counter(settle(votes, policy)[0] for policy in ("any", "majority", "unanimous"))
    said.pop(None, None)
    assert len(said) <= 1
