"""The tree that label paths make: its nodes in a fixed order, with parents, levels, leaves, heights and distances."""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsight.data.labels import Path, join_path

ROOT = -1
"""Stands for the root, which is above the first level and is no node; it indexes the last row of a tree's tables."""


class Tree:
    """The nodes that some label paths name, with all nodes above them.

    A node's number is its place in `nodes`: level by level from the first one down, siblings beside each other, in the
    order of their names as `join_path` writes them. Tables and arrays that have a place for the root have it last, so
    that ROOT indexes it.

    Args:
        paths: label paths of whatever depths; the empty path adds nothing.

    Attributes:
        nodes: N paths.
        numbers: the number of each path; of the empty path, ROOT.
        parents: int64, N: the number of the node above, ROOT on the first level.
        depths: int64, N + 1: the level of each node, 1 the first; 0 for the root.
        levels: the number of levels; 0 where there is no node.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        found = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
        self.nodes: tuple[Path, ...] = tuple(sorted(found, key=lambda path: (len(path), [*map(_written, path)])))
        self.numbers: Mapping[Path, int] = {path: place for place, path in enumerate(self.nodes)} | {(): ROOT}
        self.parents = np.array([self.numbers[path[:-1]] for path in self.nodes], np.int64)
        self.depths = np.array([*map(len, self.nodes), 0], np.int64)
        self.levels = int(self.depths.max())

    def __len__(self) -> int:
        return len(self.nodes)

    def path(self, number: int) -> Path:
        """The path of a node; of the root, the empty one."""
        return () if number == ROOT else self.nodes[number]

    def children(self, number: int) -> NDArray[np.int64]:
        """Numbers of the nodes right below one, which follow each other; none below a leaf."""
        return np.flatnonzero(self.parents == number)

    def level(self, depth: int) -> NDArray[np.int64]:
        """Numbers of the nodes of one level, which follow each other; 1 is the first."""
        return np.flatnonzero(self.depths[:-1] == depth)

    @cached_property
    def inner(self) -> NDArray[np.int64]:
        """Numbers of what has nodes below: the root, where there is any node, then inner nodes in their order."""
        return np.unique(self.parents)

    @cached_property
    def leaves(self) -> NDArray[np.int64]:
        """Numbers of the nodes with none below."""
        return np.setdiff1d(np.arange(len(self)), self.parents)

    @cached_property
    def above(self) -> NDArray[np.bool_]:
        """bool, N + 1 x N: whether the column's node is the row's own, or lies above it."""
        table = np.zeros((len(self) + 1, len(self)), bool)
        for number, parent in enumerate(self.parents):
            table[number] = table[parent]
            table[number, number] = True
        return table

    @cached_property
    def heights(self) -> NDArray[np.int64]:
        """int64, N + 1: edges on the longest way down from each node; 0 for a leaf."""
        table = np.zeros(len(self) + 1, np.int64)
        for number in reversed(range(len(self))):
            parent = self.parents[number]
            table[parent] = max(table[parent], table[number] + 1)
        return table

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        """int64, N + 1 x levels: the nodes from the first level down to each; ROOT below it."""
        table = np.full((len(self) + 1, self.levels), ROOT, np.int64)
        for number, path in enumerate(self.nodes):
            table[number] = table[self.parents[number]]
            table[number, len(path) - 1] = number
        return table

    @cached_property
    def common(self) -> NDArray[np.int64]:
        """int64, N + 1 x N + 1: the lowest common ancestor, which is one of the two where it lies above the other."""
        from_root = np.insert(self.lines, 0, ROOT, axis=1)
        return np.take_along_axis(from_root, self._shared, axis=1)

    @cached_property
    def distances(self) -> NDArray[np.int64]:
        """int64, N + 1 x N + 1: edges on the way from one node to another."""
        return self.depths[:, None] + self.depths[None] - 2 * self._shared

    @cached_property
    def _shared(self) -> NDArray[np.int64]:
        """The level of each pair's lowest common ancestor."""
        table = self.above.astype(np.float32)
        return (table @ table.T).astype(np.int64)


def _written(name: str) -> str:
    return join_path([name])
