"""From logits to labels: probabilities that add up the tree, and decisions that equal their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsight.data.labels import Path, is_under, join_path
from sparsight.data.tree import ROOT, Tree
from sparsight.models.folder import BackboneDescription, HierarchyDescription, ModelDescription, Preprocessing
from sparsight.models.hierarchy import HEADS, Heads, make_heads
from sparsight.models.labelling import Answers, Labeller, descend, least_distance, stop

TREES = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple), min_size=1, max_size=9).map(Tree)
KINDS = st.sampled_from(HEADS)
SEEDS = st.integers(0, 99)


def logits_for(tree: Tree, kind: Heads, seed: int, rows: int = 5) -> Tensor:
    return torch.randn(rows, len(make_heads(tree, kind).outputs), generator=torch.Generator().manual_seed(seed)) * 3


def described(classes: list[str], **hierarchy: object) -> ModelDescription:
    return ModelDescription(
        kind="classifier",
        backbone=BackboneDescription(name="resnet10_narrow", small_image_stem=True),
        preprocessing=Preprocessing(image_size=32, resize="fit", mean=(0, 0, 0), std=(1, 1, 1)),
        classes=tuple(classes),
        hierarchy=HierarchyDescription(**hierarchy) if hierarchy else None,  # type: ignore[arg-type]
    )


def labeller_for(tree: Tree, kind: Heads, **changes: object) -> Labeller:
    heads = make_heads(tree, kind)
    chosen = {"decision": "confident", "threshold": 0.5, "temperatures": dict.fromkeys(heads.heads, 1.0)} | changes
    return Labeller(described([join_path(path) for path in heads.outputs], heads=kind, **chosen))


few = settings(max_examples=40)


@few
@given(TREES, KINDS, SEEDS)
def test_a_node_is_as_probable_as_all_its_children(tree: Tree, kind: Heads, seed: int) -> None:
    found = make_heads(tree, kind)(logits_for(tree, kind, seed)).exp()
    for number in tree.inner:
        whole = torch.ones(len(found)) if number == ROOT else found[:, number]
        assert torch.allclose(found[:, tree.children(number)].sum(dim=1), whole, atol=1e-5)
    assert torch.allclose(found[:, tree.leaves].sum(dim=1), torch.ones(len(found)), atol=1e-5)


@few
@given(TREES, SEEDS)
def test_heads_per_parent_multiply_the_softmax_of_each_parent(tree: Tree, seed: int) -> None:
    logits = logits_for(tree, "per_parent", seed)
    found = make_heads(tree, "per_parent")(logits).exp()

    def naive(row: int, path: Path) -> float:
        if not path:
            return 1.0
        siblings = [number for number, node in enumerate(tree.nodes) if node[:-1] == path[:-1]]
        weights = logits[row, siblings].double().exp()
        own = weights[siblings.index(tree.numbers[path])] / weights.sum()
        return float(own) * naive(row, path[:-1])

    for number, path in enumerate(tree.nodes):
        assert found[0, number] == pytest.approx(naive(0, path), rel=1e-4)


@few
@given(TREES, SEEDS)
def test_a_head_over_leaves_adds_up_the_leaves_below(tree: Tree, seed: int) -> None:
    logits = logits_for(tree, "leaves", seed)
    found, chances = make_heads(tree, "leaves")(logits).exp(), logits.softmax(dim=1)
    for number, path in enumerate(tree.nodes):
        below = [place for place, leaf in enumerate(tree.leaves) if is_under(tree.nodes[leaf], path)]
        assert found[0, number] == pytest.approx(float(chances[0, below].sum()), rel=1e-4)


@few
@given(TREES, KINDS, SEEDS)
def test_a_temperature_divides_the_logits_of_its_head(tree: Tree, kind: Heads, seed: int) -> None:
    heads, logits = make_heads(tree, kind), logits_for(tree, kind, seed)
    generator = torch.Generator().manual_seed(seed)
    temperatures = torch.rand(len(heads.heads), generator=generator) + 0.5
    parents = [join_path(path[:-1]) for path in heads.outputs] if kind == "per_parent" else [""] * len(heads.outputs)
    divided = logits / temperatures[[heads.heads.index(parent) for parent in parents]]
    assert torch.allclose(heads(logits, temperatures), heads(divided), atol=1e-5)
    labeller = labeller_for(tree, kind, temperatures=dict(zip(heads.heads, temperatures.tolist(), strict=True)))
    assert np.allclose(labeller.read(logits).probabilities, heads(divided).exp().numpy(), atol=1e-5)


@few
@given(TREES, SEEDS)
def test_on_one_level_both_are_a_softmax(tree: Tree, seed: int) -> None:
    flat = Tree(path[:1] for path in tree.nodes)
    logits = logits_for(flat, "leaves", seed)
    for kind in HEADS:
        assert torch.allclose(make_heads(flat, kind)(logits), logits.log_softmax(dim=1), atol=1e-6)  # type: ignore[arg-type]


@few
@given(TREES, KINDS, SEEDS)
def test_a_line_walks_to_the_most_probable_child(tree: Tree, kind: Heads, seed: int) -> None:
    chances = make_heads(tree, kind)(logits_for(tree, kind, seed)).exp().numpy()
    for row, line in zip(chances, descend(tree, chances), strict=True):
        at = ROOT
        for number in line[line != ROOT]:
            children = tree.children(at)
            assert number == children[row[children].argmax()]
            at = number
        assert not len(tree.children(at))


@few
@given(TREES, KINDS, SEEDS, st.floats(0, 1))
def test_an_answer_is_the_deepest_node_of_its_line_that_is_sure_enough(
    tree: Tree, kind: Heads, seed: int, threshold: float
) -> None:
    chances = make_heads(tree, kind)(logits_for(tree, kind, seed)).exp().numpy()
    lines = descend(tree, chances)
    for row, line, chosen in zip(chances, lines, stop(lines, chances, threshold), strict=True):
        sure = [number for number in line if number != ROOT and row[number] >= threshold]
        assert chosen == (sure[-1] if sure else ROOT)
    assert (tree.heights[stop(lines, chances, 0.0)] == 0).all(), "with nothing asked for, it goes down to a leaf"


@few
@given(TREES, KINDS, SEEDS)
def test_the_least_expected_distance_is_found_by_trying_every_leaf(tree: Tree, kind: Heads, seed: int) -> None:
    chances = make_heads(tree, kind)(logits_for(tree, kind, seed)).exp().numpy().astype(float)
    for row, chosen in zip(chances, least_distance(tree, chances), strict=True):
        expected = [sum(row[leaf] * tree.distances[one, leaf] for leaf in tree.leaves) for one in tree.leaves]
        assert chosen in tree.leaves
        assert expected[tree.leaves.tolist().index(chosen)] == pytest.approx(min(expected))


@few
@given(TREES, KINDS, SEEDS)
def test_with_inner_nodes_to_choose_from_the_least_distance_is_being_surer_than_not(
    tree: Tree, kind: Heads, seed: int
) -> None:
    """What the documentation says of both rules: with any node allowed, they are one at a threshold of 1/2."""
    chances = make_heads(tree, kind)(logits_for(tree, kind, seed)).exp().numpy().astype(float)
    assume(np.abs(chances - 0.5).min() > 1e-3)
    everything = [*range(len(tree)), ROOT]
    expected = chances[:, tree.leaves] @ tree.distances[np.ix_(tree.leaves, everything)]
    best = np.array(everything)[expected.argmin(axis=1)]
    assert best.tolist() == stop(descend(tree, chances), chances, 0.5).tolist()


def test_answers_by_example() -> None:
    tree = Tree([("dog", "poodle"), ("dog", "boxer"), ("cat",)])  # cat, dog, dog/boxer, dog/poodle
    logits = torch.log(torch.tensor([[0.1, 0.9, 0.45, 0.55], [0.55, 0.45, 0.9, 0.1]]))

    def said(**changes: object) -> tuple[list[str], Answers]:
        labeller = labeller_for(tree, "per_parent", **changes)
        answers = labeller.read(logits)
        return [labeller.label(number) for number in answers.chosen], answers

    labels, answers = said(threshold=0.5)
    assert labels == ["dog", "cat"]
    assert answers.scores == pytest.approx([0.9, 0.55])
    assert answers.lines.tolist() == [[1, 3], [0, ROOT]]
    assert said(threshold=0.4)[0] == ["dog/poodle", "cat"]
    labels, answers = said(threshold=0.8)
    assert labels == ["dog", ""]
    assert answers.scores == pytest.approx([0.9, 0.55])
    labels, answers = said(decision="expected_distance")
    assert labels == ["dog/poodle", "cat"]
    assert answers.scores == pytest.approx([0.9 * 0.55, 0.55])
    rejecting = labeller_for(tree, "per_parent", reject=("dog",))
    assert [rejecting.rejects(number) for number in (*range(len(tree)), ROOT)] == [False, True, True, True, False]


@few
@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(tuple), min_size=1, unique=True), SEEDS)
def test_without_a_hierarchy_the_answer_is_the_most_probable_class_as_ever(paths: list[Path], seed: int) -> None:
    classes = sorted(map(join_path, paths))
    logits = torch.randn(4, len(classes), generator=torch.Generator().manual_seed(seed))
    labeller = Labeller(described(classes))
    answers, chances = labeller.read(logits), logits.softmax(dim=1).numpy()
    assert [labeller.label(number) for number in answers.chosen] == [classes[row.argmax()] for row in chances]
    assert answers.scores == pytest.approx(chances.max(axis=1))
    for number, path in enumerate(labeller.tree.nodes):
        below = [place for place, label in enumerate(classes) if is_under(tuple(label.split("/")), path)]
        assert answers.probabilities[:, number] == pytest.approx(chances[:, below].sum(axis=1), rel=1e-4)
    assert (answers.lines == labeller.tree.lines[answers.chosen]).all()
