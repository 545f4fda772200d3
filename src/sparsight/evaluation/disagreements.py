"""Photos whose annotators differ: listed with what each said, the worst first."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.labels import LabelDepth, LabelPolicy, join_paths, settle, split_path
from sparsight.data.tree import Tree
from sparsight.evaluation.votes import PHOTO, Votes

DISAGREEMENTS = "disagreements.csv"
COLUMNS = ["rank", *PHOTO, "uri", "distance", "annotators", "label", "reason", "reviewed", "said"]


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """How a dataset makes labels of votes; connect_db's inputs of these names."""

    taxonomy_level: int = 0
    label_policy: LabelPolicy = "majority"
    label_depth: LabelDepth = "whole"
    several_labels: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, object]) -> "LabelRule":
        """Take the rule out of what a dataset was made with."""
        return cls(**{name: parameters[name] for name in cls.__dataclass_fields__ if name in parameters})  # type: ignore[arg-type]

    def votes(self, annotations: pd.DataFrame) -> Votes:
        """What annotators said, as far as the rule asks for it."""
        return Votes.of(annotations, self.taxonomy_level, shallow=self.label_depth == "agreed")


def list_disagreements(annotations: pd.DataFrame, rule: LabelRule) -> pd.DataFrame:
    """List the photos on which two annotators say different things, at the level that the rule asks for.

    First come photos on which the rule settles no label, then the others; within both those whose annotators are
    farthest apart, then those with the most annotators. Two annotators are as far apart as their labels: each label of
    one is as far from the other's as from the nearest of them, in edges of the taxonomy's tree. The mean over all
    labels of both counts, and for a photo the mean over all pairs of annotators.

    Args:
        annotations: as `data.annotations` holds them.
        rule: how labels are settled.

    Returns:
        Columns rank (from 1), container, id, uri, distance, annotators (their number), label (what was settled; empty
        where nothing was), reason (why not), reviewed, said (JSON: what each annotator said).
    """
    votes = rule.votes(annotations)
    table = votes.photos.assign(distance=_distance(votes), annotators=votes.sizes)
    table = table[_differ(votes)]
    said = votes.said_about(table)
    settled = [_settled(each, rule) for each in said]
    facts = annotations[[*PHOTO, "uri", "reviewed"]].drop_duplicates(PHOTO)
    table = table.assign(
        label=[label for label, _ in settled],
        reason=[reason for _, reason in settled],
        said=[json.dumps(each, ensure_ascii=False) for each in said],
    ).merge(facts, on=PHOTO, how="left")
    order = [table["label"] != "", -table["distance"], -table["annotators"], table["container"], table["id"]]
    table = table.iloc[np.lexsort([each.to_numpy() for each in reversed(order)])].reset_index(drop=True)
    listed: pd.DataFrame = table.assign(rank=range(1, len(table) + 1))[COLUMNS]
    return listed


def _differ(votes: Votes) -> NDArray[np.bool_]:
    """Whether a photo's votes aren't all the same: bool, P."""
    first, second = votes.pairs()
    differing = votes.photo[first[votes.choice[first] != votes.choice[second]]]
    differ: NDArray[np.bool_] = np.bincount(differing, minlength=len(votes.photos)) > 0
    return differ


def _distance(votes: Votes) -> NDArray[np.float64]:
    """Mean distance of a photo's annotators: P."""
    first, second = votes.pairs()
    keys, number = np.unique(votes.choice[first] * len(votes.members) + votes.choice[second], return_inverse=True)
    paths = [split_path(label) for label in votes.labels]
    tree = Tree(paths)
    place = np.array([tree.numbers[path] for path in paths], np.int64)
    sets = [place[row[row >= 0]] for row in votes.members]
    apart = [_apart(tree, *(sets[each] for each in divmod(key, len(sets)))) for key in keys.tolist()]
    total = np.bincount(votes.photo[first], weights=np.array(apart, float)[number], minlength=len(votes.photos))
    mean: NDArray[np.float64] = total / np.maximum(votes.sizes * (votes.sizes - 1) / 2, 1)
    return mean


def _apart(tree: Tree, one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    edges = tree.distances[np.ix_(one, other)]
    return float(np.concatenate([edges.min(axis=0), edges.min(axis=1)]).mean())


def _settled(said: Mapping[str, Sequence[str]], rule: LabelRule) -> tuple[str, str]:
    votes = {annotator: [split_path(label) for label in labels] for annotator, labels in said.items()}
    labels, reason = settle(votes, rule.label_policy, depth=rule.label_depth, several=rule.several_labels)
    return join_paths(labels), reason
