"""Annotators beside each other: kappa by pair, each against the majority of the others, and who takes what for what."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.evaluation.votes import Votes, labels_in

NOTHING = ""
"""In place of a label that one annotator gave and another had nothing to set against it."""


def measure_pairs(votes: Votes) -> pd.DataFrame:
    """Measure Cohen's kappa (Cohen 1960) of all annotators who share a photo, on whole sets of labels.

    Returns:
        One row for each pair: annotator, other, photos (that both labelled), agreement (the part of them on which both
        say the same), kappa (agreement beyond what their own habits on these photos would bring about; NaN where both
        always say the same one thing).
    """
    pair, one, other = _paired(votes)
    keys, number, photos = np.unique(pair, return_inverse=True, return_counts=True)
    agreement = np.bincount(number, weights=one == other) / np.maximum(photos, 1)
    chance = _chance(number, one, other, len(votes.members)) / photos.astype(float) ** 2
    known = chance < 1
    kappa = np.where(known, (agreement - chance) / np.where(known, 1 - chance, 1.0), np.nan)
    names = np.array(votes.annotators, object)
    first, second = np.divmod(keys, max(len(names), 1))
    columns = {"annotator": names[first], "other": names[second], "photos": photos}
    return pd.DataFrame({**columns, "agreement": agreement, "kappa": kappa})


def _paired(votes: Votes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of all pairs of votes on one photo: the pair of annotators as one number, and what each of the two chose."""
    first, second = votes.pairs()
    pair = votes.annotator[first] * len(votes.annotators) + votes.annotator[second]
    return pair, votes.choice[first], votes.choice[second]


def _chance(
    number: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64], choices: int
) -> NDArray[np.float64]:
    """Sum over choices of how often one annotator made it times how often the other did, for each pair."""
    ours, our_count = np.unique(number * choices + one, return_counts=True)
    theirs, their_count = np.unique(number * choices + other, return_counts=True)
    both, at, there = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    pairs = int(number.max()) + 1 if len(number) else 0
    weights = our_count[at] * their_count[there]
    return np.bincount(both // choices, weights=weights, minlength=pairs).astype(np.float64)


def measure_annotators(votes: Votes) -> pd.DataFrame:
    """Set each annotator against the majority of the others.

    The majority's labels are those that more than half of the other annotators of a photo name; photos where they have
    none don't count.

    Returns:
        One row for each annotator: annotator, photos (labelled), shared (with somebody else), compared (where the
        others have a majority), agreement (the part of these where the annotator says exactly the same), kappa (the
        mean over the others, weighted by common photos).
    """
    compared, agrees = _against_others(votes)
    count = len(votes.annotators)
    photos = np.bincount(votes.annotator, minlength=count)
    shared = np.bincount(votes.annotator[votes.sizes[votes.photo] > 1], minlength=count)
    judged = np.bincount(votes.annotator[compared], minlength=count)
    right = np.bincount(votes.annotator[agrees], minlength=count)
    agreement = np.divide(right, judged, out=np.full(count, np.nan), where=judged > 0)
    columns = {"annotator": votes.annotators, "photos": photos, "shared": shared, "compared": judged}
    return pd.DataFrame({**columns, "agreement": agreement, "kappa": _mean_kappa(votes)})


def _against_others(votes: Votes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each vote, whether the photo's others have a majority, and whether the vote says the same: bool, N and N."""
    vote, label = labels_in(votes.members[votes.choice])
    named, count = np.unique(votes.photo[vote] * len(votes.labels) + label, return_counts=True)
    # Every vote beside every label of its photo.
    begin = np.searchsorted(named, votes.photo * len(votes.labels))
    length = np.searchsorted(named, (votes.photo + 1) * len(votes.labels)) - begin
    beside = np.repeat(np.arange(len(votes)), length)
    at = np.repeat(begin - np.cumsum(length) + length, length) + np.arange(length.sum())
    own = votes.sets[votes.choice[beside], named[at] % max(len(votes.labels), 1)]
    others = votes.sizes[votes.photo[beside]] - 1
    majority = 2 * (count[at] - own) > others
    compared = np.bincount(beside, weights=majority & (others > 0), minlength=len(votes)) > 0
    differs = np.bincount(beside, weights=majority != own, minlength=len(votes)) > 0
    return compared, compared & ~differs


def _mean_kappa(votes: Votes) -> NDArray[np.float64]:
    pairs = measure_pairs(votes).dropna(subset="kappa")
    number = {name: place for place, name in enumerate(votes.annotators)}
    ends = np.concatenate([pairs["annotator"].map(number), pairs["other"].map(number)]).astype(np.int64)
    weights = np.tile(pairs["photos"].to_numpy(float), 2)
    total = np.bincount(ends, weights=weights, minlength=len(number))
    found = np.bincount(ends, weights=weights * np.tile(pairs["kappa"].to_numpy(float), 2), minlength=len(number))
    mean: NDArray[np.float64] = np.divide(found, total, out=np.full(len(number), np.nan), where=total > 0)
    return mean


def confusion_by_label(votes: Votes) -> pd.DataFrame:
    """Count what annotators say where another one says a label: Krippendorff's coincidences, symmetric.

    Each vote is compared with every other one of its photo and counts once in all. Of sets, common labels are matched
    first; what is left on either side is spread evenly over what is left on the other.

    Returns:
        One row for each two labels that occur together: label, other, count; `other` is empty for a label that had
        nothing left to be set against.
    """
    first, second = votes.pairs()
    weights = 1 / (votes.sizes[votes.photo[first]] - 1)
    table = _matched(votes, np.zeros(len(first), np.int64), votes.choice[first], votes.choice[second], weights)
    mirrored = table.rename(columns={"label": "other", "other": "label"})
    both = _added_up(pd.concat([table, mirrored]), ["label", "other"])
    return both[both["label"] != NOTHING].reset_index(drop=True)


def confusion_by_pair(votes: Votes) -> pd.DataFrame:
    """Count, for each pair of annotators, what the other says where one says a label.

    Returns:
        One row for each pair and two labels: annotator, other_annotator, label, other, count (photos; of several labels
        at once, the part of a photo).
    """
    pair, one, other = _paired(votes)
    table = _matched(votes, pair, one, other, np.ones(len(pair)))
    names = np.array(votes.annotators, object)
    first, second = np.divmod(table.pop("group").to_numpy(np.int64), max(len(names), 1))
    table.insert(0, "annotator", names[first])
    table.insert(1, "other_annotator", names[second])
    return table


def _matched(
    votes: Votes,
    group: NDArray[np.int64],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> pd.DataFrame:
    """Add up weights of pairs of sets by group, label and label: columns group, label, other, count."""
    sets = len(votes.members)
    keys, number = np.unique((group * sets + one) * sets + other, return_inverse=True)
    total = np.bincount(number, weights=weights, minlength=len(keys))
    rows = [
        (key // sets**2, label, against, part * weight)
        for key, weight in zip(keys.tolist(), total.tolist(), strict=True)
        for label, against, part in match(votes.said(key // sets % sets), votes.said(key % sets))
    ]
    return _added_up(pd.DataFrame(rows, columns=["group", "label", "other", "count"]), ["group", "label", "other"])


def _added_up(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return table.groupby(keys)["count"].sum().reset_index()


def match(labels: list[str], others: list[str]) -> list[tuple[str, str, float]]:
    """Match two sets of labels: equal ones with each other, the rest of one with the rest of the other; 1 in all.

    >>> match(["a", "b"], ["a", "c"])
    [('a', 'a', 0.5), ('b', 'c', 0.5)]
    """
    common = [label for label in labels if label in others]
    left = [label for label in labels if label not in common]
    right = [label for label in others if label not in common]
    whole = len(common) + max(len(left), len(right))
    part = max(len(left), len(right)) / (max(len(left), 1) * max(len(right), 1) * whole)
    rest = [(one, other, part) for one in left or [NOTHING] for other in right or [NOTHING]] if left or right else []
    return [(label, label, 1 / whole) for label in common] + rest
