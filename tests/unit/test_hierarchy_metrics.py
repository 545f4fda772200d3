"""Metrics of a taxonomy, against sets of nodes counted one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.data.labels import Path, deepest, is_under, join_path, join_paths, split_path, split_paths
from sparsight.data.tree import ROOT, Tree
from sparsight.evaluation.hierarchy import TrueLabels, evaluate_hierarchy
from sparsight.evaluation.metrics import Predictions, evaluate
from sparsight.evaluation.ranking import Ranked, coverage, distances_at, level_calibration, with_ranking
from sparsight.models.labelling import Answers, descend, stop

PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(tuple)
TRUTHS = st.lists(PATHS, min_size=1, max_size=2).map(join_paths)
PREDICTED = st.one_of(PATHS, st.just(())).map(join_path)
PAIRS = st.lists(st.tuples(TRUTHS, PREDICTED), min_size=1, max_size=12)


def nodes(*paths: Path) -> set[Path]:
    return {path[:depth] for path in paths for depth in range(1, len(path) + 1)}


def cut(predicted: str, truth: str) -> Path:
    path = split_path(predicted)
    return next((node for node in split_paths(truth) if is_under(path, node)), path)


def naive_severity(path: Path, truth: str, every: set[Path]) -> int:
    """Height of the lowest common ancestor with the nearest of the true paths; 0 for what is right."""

    def height(node: Path) -> int:
        return max(len(other) for other in every if is_under(other, node)) - len(node)

    if any(is_under(path, node) for node in split_paths(truth)):
        return 0
    return min(
        height(max((path[:depth] for depth in range(len(path) + 1) if is_under(node, path[:depth])), key=len))
        for node in split_paths(truth)
    )


@settings(max_examples=200)
@given(PAIRS)
def test_equals_the_definitions(drawn: list[tuple[str, str]]) -> None:
    truth, predicted = [list(side) for side in zip(*drawn, strict=True)]
    metrics = evaluate_hierarchy(truth, predicted, ())

    said = [nodes(cut(p, t)) for t, p in drawn]
    true = [nodes(*split_paths(t)) for t in truth]
    hits = sum(len(a & b) for a, b in zip(said, true, strict=True))
    precision, recall = hits / max(1, sum(map(len, said))), hits / sum(map(len, true))
    assert metrics.precision == pytest.approx(precision)
    assert metrics.recall == pytest.approx(recall)
    assert metrics.f1 == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0)
    every = nodes(*(node for t in truth for node in split_paths(t)), *map(split_path, predicted)) | {()}
    severities = [naive_severity(split_path(p), t, every) for t, p in drawn]
    errors = [severity for severity in severities if severity]
    assert metrics.distance == pytest.approx(np.mean(severities))
    assert metrics.mistake_severity == (pytest.approx(np.mean(errors)) if errors else None)
    for label, each in metrics.nodes.items():
        node = split_path(label)
        assert each.support == sum(node in b for b in true)
        named, hit = sum(node in a for a in said), sum(node in a & b for a, b in zip(said, true, strict=True))
        assert each.precision == pytest.approx(hit / named if named else 0)
        assert each.recall == pytest.approx(hit / each.support if each.support else 0)


@settings(max_examples=100)
@given(PAIRS)
def test_levels_equal_their_definitions(drawn: list[tuple[str, str]]) -> None:
    truth, predicted = [list(side) for side in zip(*drawn, strict=True)]
    levels = evaluate_hierarchy(truth, predicted, ()).levels
    assert len(levels) == max(len(path) for t in truth for path in split_paths(t))
    for depth, level in enumerate(levels, start=1):
        reach = [(t, cut(p, t)) for t, p in drawn if any(len(path) >= depth for path in split_paths(t))]
        answered = [(t, p) for t, p in reach if len(p) >= depth]
        right = [1 for t, p in answered if p[:depth] in {path[:depth] for path in split_paths(t) if len(path) >= depth}]
        assert (level.images, level.answered) == (len(reach), len(answered))
        assert level.accuracy == pytest.approx(len(right) / len(reach))
        assert level.answered_accuracy == pytest.approx(len(right) / len(answered) if answered else 0)


def test_by_example() -> None:
    """A near miss is worth more than a far one, and an answer that stops more than a wrong one."""
    classes = ("cat", "dog/boxer", "dog/poodle")
    near, far, early, none = (
        evaluate_hierarchy(["dog/poodle"], [said], classes) for said in ("dog/boxer", "cat", "dog", "")
    )
    assert (near.precision, near.recall, near.f1, near.mistake_severity) == (0.5, 0.5, 0.5, 1)
    assert (far.f1, far.mistake_severity) == (0, 2)
    assert (early.precision, early.recall, early.mistake_severity) == (1, 0.5, 1)
    assert (none.precision, none.recall, none.mistake_severity) == (0, 0, 2)
    assert evaluate_hierarchy(["dog/poodle"], ["dog/poodle"], classes).mistake_severity is None


def test_what_lies_below_the_place_where_a_label_stops_is_not_judged() -> None:
    metrics = evaluate_hierarchy(["dog", "dog"], ["dog/poodle", "cat"], ("dog/boxer",))
    assert (metrics.precision, metrics.recall, metrics.mistake_severity) == (0.5, 0.5, 2)
    assert metrics.levels[0].accuracy == 0.5
    assert len(metrics.levels) == 1


def test_of_several_true_labels_one_that_is_found_is_right_and_the_others_are_missed() -> None:
    metrics = evaluate_hierarchy(["cat|dog/poodle"], ["dog/poodle"], ())
    assert (metrics.precision, metrics.recall, metrics.distance) == (1, pytest.approx(2 / 3), 0)


TREES = st.lists(PATHS, min_size=1, max_size=8).map(Tree)


@st.composite
def ranked(draw: st.DrawFn) -> tuple[list[str], Ranked]:
    """Random probabilities over a random tree, and true labels some of which the tree doesn't know."""
    tree = draw(TREES)
    rows = draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    leaves = generator.dirichlet(np.ones(len(tree.leaves)) / 2, rows)
    probabilities = (leaves @ tree.above[tree.leaves]).astype(np.float32)
    lines = descend(tree, probabilities)
    chosen = stop(lines, probabilities, 0.5)
    answers = Answers(probabilities=probabilities, lines=lines, chosen=chosen, scores=probabilities.max(axis=1))
    return draw(st.lists(TRUTHS, min_size=rows, max_size=rows)), Ranked(tree=tree, answers=answers)


@settings(max_examples=60)
@given(ranked())
def test_hdist_is_the_mean_severity_of_the_nearest_leaves(drawn: tuple[list[str], Ranked]) -> None:
    truth, told = drawn
    tree, probabilities = told.tree, told.answers.probabilities
    true = TrueLabels(truth, map(join_path, tree.nodes))
    every = {*true.tree.nodes, ()}
    for k, found in distances_at(true, tree, probabilities).items():
        assert k < len(tree.leaves)
        nearest = [sorted(tree.leaves, key=lambda leaf: -row[leaf])[:k] for row in probabilities]
        expected = np.mean(
            [
                np.mean([naive_severity(tree.nodes[leaf], t, every) for leaf in row])
                for row, t in zip(nearest, truth, strict=True)
            ]
        )
        assert found == pytest.approx(expected)


@settings(max_examples=60)
@given(ranked())
def test_coverage_falls_and_counts_what_is_sure_enough(drawn: tuple[list[str], Ranked]) -> None:
    truth, told = drawn
    true = TrueLabels(truth, map(join_path, told.tree.nodes))
    curve = coverage(true, told)
    for depth, level in curve.groupby("level"):
        assert (np.diff(level["coverage"]) <= 0).all()
        reach = [image for image, t in enumerate(truth) if any(len(path) >= depth for path in split_paths(t))]
        for row in level.iloc[::25].itertuples():
            sure = [
                image
                for image in reach
                if told.answers.lines[image, depth - 1] != ROOT
                and told.answers.probabilities[image, told.answers.lines[image, depth - 1]] >= row.threshold
            ]
            assert row.coverage == pytest.approx(len(sure) / len(reach))
            right = [
                told.tree.nodes[told.answers.lines[image, depth - 1]]
                in {path[:depth] for path in split_paths(truth[image])}
                for image in sure
            ]
            assert np.isnan(row.accuracy) if not sure else row.accuracy == pytest.approx(np.mean(right))


def test_calibration_by_level_is_of_the_most_probable_nodes() -> None:
    tree = Tree([("dog", "poodle"), ("dog", "boxer"), ("cat",)])
    probabilities = np.array([[0.2, 0.8, 0.3, 0.5]] * 4, np.float32)
    lines = descend(tree, probabilities)
    answers = Answers(probabilities=probabilities, lines=lines, chosen=lines[:, 0], scores=probabilities.max(axis=1))
    truth = ["dog/poodle", "dog/boxer", "dog", "cat"]
    true = TrueLabels(truth, map(join_path, tree.nodes))
    assert level_calibration(true, tree, answers, 1) == pytest.approx(0.8 - 3 / 4)
    assert level_calibration(true, tree, answers, 2) == pytest.approx(0)
    metrics = evaluate_hierarchy(truth, ["dog"] * 4, [join_path(node) for node in tree.nodes])
    ranked_too = with_ranking(metrics, truth, Ranked(tree=tree, answers=answers, uncalibrated=answers))
    assert [level.calibration_error for level in ranked_too.levels] == pytest.approx([0.05, 0], abs=1e-6)
    assert [level.uncalibrated_error for level in ranked_too.levels] == pytest.approx([0.05, 0], abs=1e-6)
    assert list(ranked_too.distance_at) == [1, 2]


def predictions(truth: list[str], predicted: list[str]) -> Predictions:
    ids = [f"photo-{number}" for number in range(len(truth))]
    return Predictions(ids=ids, truth=truth, predicted=predicted, scores=np.full(len(truth), 0.75))


def test_metrics_hold_a_hierarchy_where_there_is_one() -> None:
    flat = evaluate(predictions(["cat", "dog"], ["cat", "cat"]), ("cat", "dog"))
    assert flat.hierarchy is None
    assert "hierarchical_f1" not in flat.overall()
    one_parent = evaluate(predictions(["a/x", "a/y"], ["a/x", "a/x"]), ("a/x", "a/y"))
    assert one_parent.hierarchy is None, "nobody has to find the parent"
    deep = evaluate(predictions(["a/x", "a/y"], ["a/x", "a/x"]), ("a/x", "a/y", "b"))
    assert deep.overall()["hierarchical_f1"] == deep.hierarchy.f1 == 0.75
    assert deep.overall()["mistake_severity"] == 1
    assert type(deep).model_validate_json(deep.model_dump_json()) == deep


def test_answers_that_stop_or_go_on_are_judged_as_far_as_they_can_be() -> None:
    metrics = evaluate(predictions(["a", "a/x", "a/x", "b|a/y"], ["a/x", "a", "", "b"]), ("a", "a/x", "b|a/y"))
    assert metrics.accuracy == 0.5, (
        "going on below a label that stops is right; stopping early and saying nothing isn't"
    )
    assert metrics.calibration_error == pytest.approx(0.25), "three answers, all true as far as they go"
    assert np.sum(metrics.confusion) == 4


def test_images_that_are_none_to_classify_are_counted_apart() -> None:
    truth = ["out/blurred", "out/blurred", "a", "a"]
    metrics = evaluate(predictions(truth, ["out", "a", "out/dark", "a"]), ("a", "out/blurred"), reject=("out",))
    assert (metrics.reject.precision, metrics.reject.recall, metrics.reject.support) == (0.5, 0.5, 2)
    assert metrics.overall()["reject_recall"] == 0.5
    assert evaluate(predictions(truth, truth), ("a", "out/blurred")).reject is None


def test_paths_of_a_true_label_are_never_one_above_the_other() -> None:
    """What `cut` and the severity rely on."""
    assert deepest({("a",), ("a", "b")}) == [("a", "b")]
