"""Who said what about which photo, at one level of the taxonomy, in numbers that counting is fast with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.labels import at_level, deepest, join_path, split_path
from sparsight.data.tree import Tree

PHOTO = ["container", "id"]
"""Columns that name a photo: ids are unique within a container."""


@dataclass(frozen=True, kw_only=True)
class Votes:
    """What annotators said about photos. A vote is what one annotator said about one photo: one label or several.

    A label above another one of the same vote goes without saying and isn't there.

    Attributes:
        photos: P rows: container, id.
        annotators: A names, sorted.
        labels: L label paths, sorted.
        members: int64, S x size of the largest: the distinct sets of labels that votes are made of, as numbers of
            labels in ascending order, filled up with -1.
        photo: int64, N: the number of each vote's photo, in ascending order.
        annotator: int64, N: of each vote, in ascending order within a photo.
        choice: int64, N: the row of each vote's set in `members`.
    """

    photos: pd.DataFrame
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    members: NDArray[np.int64]
    photo: NDArray[np.int64]
    annotator: NDArray[np.int64]
    choice: NDArray[np.int64]

    @classmethod
    def of(cls, annotations: pd.DataFrame, level: int, *, shallow: bool = False) -> "Votes":
        """Cut annotations at a level and unite each annotator's; who names nothing that deep doesn't vote.

        Args:
            annotations: columns container, id, annotator, label, as `data.annotations` holds them.
            level: 1 is the first level; 0 is the whole path.
            shallow: whether labels that end above the level count, too.
        """
        cut = {label: _cut(label, level, shallow) for label in annotations["label"].unique()}
        table = annotations[[*PHOTO, "annotator"]].assign(label=annotations["label"].map(cut))
        table = table.dropna(subset="label").drop_duplicates().sort_values([*PHOTO, "annotator", "label"])
        photo = np.asarray(table.groupby(PHOTO, sort=True).ngroup(), np.int64)
        annotator, annotators = pd.factorize(table["annotator"], sort=True)
        label, labels = pd.factorize(table["label"], sort=True)
        vote = np.cumsum(_changes(photo, annotator)) - 1
        rows, choice = distinct_groups(vote, label.astype(np.int64))
        rows, choice = _without_ancestors(rows, choice, list(labels))
        first = np.flatnonzero(_changes(vote))
        return cls(
            photos=table[PHOTO].drop_duplicates().reset_index(drop=True),
            annotators=tuple(annotators),
            labels=tuple(labels),
            members=rows,
            photo=photo[first],
            annotator=annotator[first].astype(np.int64),
            choice=choice,
        )

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many votes each photo has: int64, P."""
        return np.bincount(self.photo, minlength=len(self.photos))

    @cached_property
    def sets(self) -> NDArray[np.bool_]:
        """Which labels each set holds: bool, S x L."""
        table = np.zeros((len(self.members), len(self.labels)), bool)
        table[labels_in(self.members)] = True
        return table

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All pairs of votes on one photo: the numbers of the earlier and of the later one."""
        return pairs_within(self.photo)

    def said(self, choice: int) -> list[str]:
        """Labels of a set, sorted."""
        return [self.labels[number] for number in self.members[choice] if number >= 0]

    def said_about(self, photos: pd.DataFrame) -> list[dict[str, list[str]]]:
        """What each annotator said about some photos.

        Args:
            photos: columns container and id; nothing was said about those that nobody voted on.
        """
        rows = pd.MultiIndex.from_frame(self.photos).get_indexer(pd.MultiIndex.from_frame(photos[PHOTO]))
        begin, end = (np.searchsorted(self.photo, rows, side=side).tolist() for side in ("left", "right"))
        return [
            {self.annotators[self.annotator[vote]]: self.said(int(self.choice[vote])) for vote in range(first, last)}
            for first, last in zip(begin, end, strict=True)
        ]


def _cut(label: str, level: int, shallow: bool) -> str | None:
    path = split_path(label)
    cut = at_level(path, min(level, len(path)) if shallow else level)
    return join_path(cut) if cut else None


def _without_ancestors(
    rows: NDArray[np.int64], choice: NDArray[np.int64], labels: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leave labels out of sets that lie above others in them, and find the sets that are equal then."""
    paths = [split_path(label) for label in labels]
    number_of = {path: number for number, path in enumerate(paths)}
    sets = [sorted(number_of[path] for path in deepest(paths[label] for label in row if label >= 0)) for row in rows]
    owner = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    found, inverse = distinct_groups(owner, np.array([label for each in sets for label in each], np.int64))
    return found, inverse[choice]


def _changes(*columns: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Where a row of sorted columns differs from the one before; the first one does."""
    changed = np.ones(len(columns[0]), bool)
    changed[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return changed


def places_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the members of each group from 0; `groups` is sorted."""
    starts = np.flatnonzero(_changes(groups))
    return np.arange(len(groups)) - np.repeat(starts, np.diff([*starts, len(groups)]))


def pairs_within(groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of members of one group, the earlier member first; `groups` is sorted."""
    last = np.searchsorted(groups, groups, side="right") - 1
    later = last - np.arange(len(groups))
    first = np.repeat(np.arange(len(groups)), later)
    begin = np.repeat(np.cumsum(later) - later, later)
    return first, first + 1 + np.arange(len(first)) - begin


def distinct_groups(
    groups: NDArray[np.int64], members: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find groups with the same members.

    Args:
        groups: N, sorted: each number from 0 on.
        members: N, at least 0, sorted within a group.

    Returns:
        The distinct groups, D x size of the largest, filled up with -1, and each group's number among them.
    """
    place = places_within(groups)
    count = int(groups[-1]) + 1 if len(groups) else 0
    rows = np.full((count, int(place.max()) + 1 if len(place) else 0), -1, np.int64)
    rows[groups, place] = members
    found, inverse = np.unique(rows, axis=0, return_inverse=True)
    return found, inverse.ravel()


def labels_in(members: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the labels in rows of `Votes.members`: the row that each is in, and its number."""
    row, column = np.nonzero(members >= 0)
    return row, members[row, column]


def levels_of(labels: Sequence[str]) -> list[int]:
    """The levels at which labels can be compared: each from the first one down, and 0 for the whole path."""
    depth = max((len(split_path(label)) for label in labels), default=0)
    return [*range(1, depth + 1), 0]


def nodes_of(votes: Votes) -> NDArray[np.bool_]:
    """Which nodes of the taxonomy each set of labels stands for, the labels and all above them: bool, S x nodes."""
    paths = [split_path(label) for label in votes.labels]
    tree = Tree(paths)
    above = tree.above[[tree.numbers[path] for path in paths]]
    table: NDArray[np.bool_] = votes.sets.astype(np.float32) @ above.astype(np.float32) > 0
    return table
