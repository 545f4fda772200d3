"""The tree of label paths: every table is what walking from node to node finds."""

from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.labels import Path, join_path
from sparsight.data.tree import ROOT, Tree

PATHS = st.lists(st.lists(st.sampled_from(["a", "b", "c/d", "a+"]), max_size=4).map(tuple), max_size=12)


def every(tree: Tree) -> list[Path]:
    """All nodes in their order, and the root last."""
    return [*tree.nodes, ()]


def prefixes(path: Path) -> set[Path]:
    return {path[:depth] for depth in range(len(path) + 1)}


@given(PATHS)
def test_nodes_are_the_paths_and_all_above_them_level_by_level(paths: list[Path]) -> None:
    tree = Tree(paths)
    assert set(every(tree)) == {()}.union(*map(prefixes, paths))
    assert len(tree) == len(set(tree.nodes))
    assert [tree.numbers[path] for path in tree.nodes] == list(range(len(tree)))
    assert tree.numbers[()] == ROOT
    assert [tree.path(number) for number in (*range(len(tree)), ROOT)] == every(tree)
    assert tree.depths.tolist() == [len(path) for path in every(tree)]
    assert sorted(tree.depths[:-1].tolist()) == tree.depths[:-1].tolist()
    assert tree.levels == max(map(len, every(tree)))
    assert [tree.path(parent) for parent in tree.parents] == [path[:-1] for path in tree.nodes]


@given(PATHS)
def test_siblings_follow_each_other_sorted_as_they_are_written(paths: list[Path]) -> None:
    tree = Tree(paths)
    for number, path in zip((*range(len(tree)), ROOT), every(tree), strict=True):
        children = tree.children(number).tolist()
        assert [tree.nodes[child] for child in children] == sorted(
            (node for node in tree.nodes if node[:-1] == path), key=join_path
        )
        assert children == list(range(children[0], children[0] + len(children))) if children else True


@given(PATHS, st.randoms())
def test_the_order_of_paths_makes_no_difference(paths: list[Path], random: object) -> None:
    shuffled = list(paths)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Tree(shuffled).nodes == Tree(paths).nodes


@given(PATHS)
def test_levels_leaves_and_inner_nodes(paths: list[Path]) -> None:
    tree = Tree(paths)
    inner = {path[:-1] for path in tree.nodes}
    assert [tree.path(number) for number in tree.inner] == [path for path in [(), *tree.nodes] if path in inner]
    assert [tree.nodes[number] for number in tree.leaves] == [path for path in tree.nodes if path not in inner]
    for depth in range(1, tree.levels + 1):
        assert [tree.nodes[number] for number in tree.level(depth)] == [n for n in tree.nodes if len(n) == depth]


@given(PATHS)
def test_tables_are_what_their_definitions_say(paths: list[Path]) -> None:
    tree = Tree(paths)
    for row, one in enumerate(every(tree)):
        below = [node for node in every(tree) if one in prefixes(node)]
        assert [tree.path(number) for number in tree.lines[row]][: len(one)] == [one[: d + 1] for d in range(len(one))]
        assert set(tree.lines[row, len(one) :]) <= {ROOT}
        assert tree.heights[row] == max(len(node) for node in below) - len(one)
        for column, other in enumerate(every(tree)):
            common = max(prefixes(one) & prefixes(other), key=len)
            assert tree.path(tree.common[row, column]) == common
            assert tree.distances[row, column] == len(one) + len(other) - 2 * len(common)
            if other:
                assert tree.above[row, column] == (other in prefixes(one))


def test_by_example() -> None:
    tree = Tree([("dog", "poodle"), ("cat",), ("dog", "boxer")])
    assert tree.nodes == (("cat",), ("dog",), ("dog", "boxer"), ("dog", "poodle"))
    assert tree.heights.tolist() == [0, 1, 0, 0, 2]
    assert tree.distances[2, 3] == 2
    assert tree.distances[0, 3] == 3
    assert tree.heights[tree.common[2, 3]] == 1
    assert tree.heights[tree.common[0, 3]] == 2
    assert tree.leaves.tolist() == [0, 2, 3]
    assert tree.inner.tolist() == [ROOT, 1]


def test_a_tree_of_nothing_has_a_root_alone() -> None:
    tree = Tree([()])
    assert (len(tree), tree.levels, tree.heights.tolist(), tree.distances.tolist()) == (0, 0, [0], [[0]])
    assert tree.inner.size == tree.leaves.size == 0
