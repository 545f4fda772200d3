"""Label paths, and several annotators' votes becoming one label."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.labels import (
    at_level,
    counts_as,
    deepest,
    is_under,
    join_path,
    join_paths,
    rarest,
    settle,
    split_path,
    split_paths,
    votes_by_annotator,
)

NAMES = st.text(min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)
LABELS = st.sampled_from([("a",), ("b",), ("c",)])
VOTES = st.dictionaries(st.text(max_size=2), st.sets(LABELS, min_size=1), max_size=6)
NODES = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(tuple)
DEEP_VOTES = st.dictionaries(st.text(max_size=2), st.sets(NODES, min_size=1, max_size=3), max_size=5)
POLICIES = st.sampled_from(["any", "majority", "unanimous"])


@given(PATHS)
def test_a_path_survives_being_written(path: tuple[str, ...]) -> None:
    assert split_path(join_path(path)) == path


@given(PATHS, PATHS)
def test_different_paths_are_written_differently(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (join_path(one) == join_path(other)) == (one == other)


def test_slash_and_percent_are_encoded() -> None:
    assert join_path(["AC/DC", "100 %"]) == "AC%2FDC/100 %25"
    assert join_path(["a|b"]) == "a%7Cb"
    assert split_path("it%27s/so") == ("it's", "so")
    assert split_path("") == ()


@given(st.lists(PATHS, max_size=4))
def test_several_paths_survive_being_written_but_for_those_above_others(paths: list[tuple[str, ...]]) -> None:
    kept = [one for one in paths if not any(other != one and is_under(other, one) for other in paths)]
    assert set(split_paths(join_paths(paths))) == set(kept) == set(deepest(paths))
    assert join_paths(reversed(paths)) == join_paths(kept) == join_paths(paths)


def test_one_path_is_written_as_ever() -> None:
    assert join_paths([("dog", "poodle")]) == join_path(("dog", "poodle"))
    assert join_paths([("dog",), ("cat",), ("dog", "poodle")]) == "cat|dog/poodle"
    assert join_paths([]) == ""
    assert split_paths("") == ()


@pytest.mark.parametrize(
    ("predicted", "truth", "counts"),
    [
        ("dog", "dog", "dog"),
        ("dog/poodle", "dog", "dog"),
        ("dog", "dog/poodle", "dog"),
        ("dogfish", "dog", "dogfish"),
        ("dog/poodle", "cat|dog", "cat|dog"),
        ("bird", "cat|dog", "bird"),
        ("", "dog", ""),
    ],
)
def test_what_lies_below_a_label_counts_as_the_label(predicted: str, truth: str, counts: str) -> None:
    assert counts_as(predicted, truth) == counts


def test_a_photo_of_several_classes_belongs_to_the_rarest() -> None:
    assert rarest(["a|b", "a", "b", "b", "c"]) == ["a", "a", "b", "b", "c"]
    assert rarest([]) == []


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
    shallow = votes_by_annotator(annotations, 2, shallow=True)
    assert shallow == {"ann": {("dog", "poodle"), ("dog", "boxer"), ("cat",)}, "ben": {("cat",)}}
    assert votes_by_annotator(annotations, 0, shallow=True) == shallow


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
    assert found == [((label,),) if label else () for label in outcome]


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ("a/x a/y", ("a/x", "a", "a")),
        ("a/x a", ("a/x", "a", "a")),
        ("a/x a/x b", ("a/x", "a/x", "")),
        ("a/x a/y b", ("a/x", "a", "")),
        ("a/x,b a/y,b", ("a/x", "", "")),
        ("a/x,a/y a/x", ("a/x", "a/x", "a")),
        ("a b", ("a", "", "")),
    ],
)
def test_labels_as_deep_as_annotators_agree(votes: str, outcome: tuple[str, ...]) -> None:
    by_annotator = {str(who): set(map(split_path, word.split(","))) for who, word in enumerate(votes.split())}
    policies = ("any", "majority", "unanimous")
    found = [join_paths(settle(by_annotator, policy, depth="agreed")[0]) for policy in policies]
    assert found == list(outcome)


@pytest.mark.parametrize(
    ("votes", "whole", "agreed"),
    [
        ("a/x,b a/y,b", ("a/x|a/y|b", "b", ""), ("a/x|a/y|b", "a|b", "a|b")),
        ("a/x,b a/x,b", ("a/x|b", "a/x|b", "a/x|b"), ("a/x|b", "a/x|b", "a/x|b")),
        ("a/x,b a/x a/x,b", ("a/x|b", "a/x|b", ""), ("a/x|b", "a/x|b", "")),
        ("a,a/x a,a/x", ("a/x", "a/x", "a/x"), ("a/x", "a/x", "a/x")),
    ],
)
def test_several_labels_at_once(votes: str, whole: tuple[str, ...], agreed: tuple[str, ...]) -> None:
    by_annotator = {str(who): set(map(split_path, word.split(","))) for who, word in enumerate(votes.split())}
    for depth, outcome in (("whole", whole), ("agreed", agreed)):
        found = [
            join_paths(settle(by_annotator, policy, depth=depth, several=True)[0])  # type: ignore[arg-type]
            for policy in ("any", "majority", "unanimous")
        ]
        assert found == list(outcome), depth


@given(DEEP_VOTES)
def test_agreed_labels_are_the_deepest_nodes_that_enough_annotators_name(
    votes: dict[str, set[tuple[str, ...]]],
) -> None:
    """More than half of all annotators name such a node or one below it; with one label each, these lie on one line."""
    named = {path[:depth] for paths in votes.values() for path in paths for depth in range(1, len(path) + 1)}
    support = {node: sum(any(is_under(path, node) for path in paths) for paths in votes.values()) for node in named}
    enough = {node for node in named if 2 * support[node] > len(votes)}
    assert set(settle(votes, "majority", depth="agreed", several=True)[0]) == set(deepest(enough))
    assert set(settle(votes, "any", depth="agreed", several=True)[0]) == set(deepest(named))
    if all(len(paths) == 1 for paths in votes.values()):
        assert set(settle(votes, "majority", depth="agreed")[0]) == set(deepest(enough))


@given(DEEP_VOTES, POLICIES)
def test_going_as_deep_as_agreed_loses_no_photo_that_whole_labels_keep(
    votes: dict[str, set[tuple[str, ...]]], policy: str
) -> None:
    whole, _ = settle(votes, policy, several=True)  # type: ignore[arg-type]
    agreed, reason = settle(votes, policy, depth="agreed", several=True)  # type: ignore[arg-type]
    assert bool(agreed) or not whole
    assert bool(agreed) != bool(reason)


@given(VOTES)
def test_policies_as_defined(votes: dict[str, set[tuple[str, ...]]]) -> None:
    ballots = [label for labels in votes.values() for label in labels]
    named = {label: ballots.count(label) for label in ballots}
    best = [label for label in named if named[label] == max(named.values())]
    majority = [label for label in best if named[label] > len(votes) / 2]
    assert settle(votes, "any")[0] == ((min(best),) if best else ())
    assert settle(votes, "majority")[0] == (tuple(majority) if len(majority) == 1 else ())
    assert settle(votes, "unanimous")[0] == ((ballots[0],) if len(named) == 1 else ())


@given(VOTES, POLICIES)
def test_there_is_a_label_or_a_reason(votes: dict[str, set[tuple[str, ...]]], policy: str) -> None:
    labels, reason = settle(votes, policy)  # type: ignore[arg-type]
    assert bool(labels) != bool(reason)
    assert len(labels) <= 1


@given(VOTES)
def test_a_stricter_policy_never_says_otherwise(votes: dict[str, set[tuple[str, ...]]]) -> None:
    said = Counter(settle(votes, policy)[0] for policy in ("any", "majority", "unanimous"))
    said.pop((), None)
    assert len(said) <= 1
