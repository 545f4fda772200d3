"""How far annotators agree beyond chance: Krippendorff's alpha over all labels and for each, with intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.evaluation.bootstrap import CONFIDENCE, RESAMPLES
from sparsight.evaluation.set_distances import DISTANCES, Distances
from sparsight.evaluation.votes import Votes, distinct_groups, labels_in, nodes_of, pairs_within

RELIABLE, TENTATIVE = 0.8, 0.667
"""Bounds of alpha above which labels can be relied on, or support tentative conclusions (Krippendorff 2004, p. 241)."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement at one level of the taxonomy; numbers are NaN where nothing can be said.

    Attributes:
        photos: photos that two annotators or more labelled.
        votes: what was said about these photos.
        overall: one row for each distance: distance, alpha, low, high.
        classes: one row for each label, against all others: label, alpha, low, high, photos (that somebody gave the
            label), votes (for it).
    """

    photos: int
    votes: int
    overall: pd.DataFrame
    classes: pd.DataFrame


def measure_agreement(votes: Votes, *, resamples: int = RESAMPLES, seed: int = 0) -> Agreement:
    """Measure Krippendorff's alpha (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).

    1 is agreement, 0 is what chance would bring about, below 0 is worse than chance. Any number of annotators may have
    labelled a photo; photos with one annotator don't count. `nominal` compares whole sets of labels. `jaccard` and
    `masi` compare the sets of the taxonomy's nodes that labels stand for, themselves and all above them, so that
    poodle and boxer are nearer to each other than poodle and siamese. A single label is compared as named or not.

    Intervals hold 95 % of the alphas that a bootstrap over photos gives (Efron and Tibshirani 1993, percentiles).

    Args:
        votes: at one level.
        resamples: draws of the bootstrap.
        seed: of the draws.
    """
    compared = votes.photo[votes.sizes[votes.photo] > 1]
    photos = len(np.unique(compared))
    if not photos:
        return Agreement(photos=0, votes=0, overall=_table("distance", [*DISTANCES]), classes=_table("label", []))
    patterns = _Patterns.of(votes)
    sums = _Sums.over(patterns, _distances(votes), resamples, seed)
    overall = _table("distance", [*DISTANCES], sums.alphas())
    classes = _table("label", list(votes.labels), sums.class_alphas())
    classes = classes.assign(photos=patterns.photos_with(), votes=sums.named[0].astype(int))
    return Agreement(
        photos=photos,
        votes=len(compared),
        overall=overall,
        classes=classes[classes["votes"] > 0].reset_index(drop=True),
    )


def _distances(votes: Votes) -> list[Distances]:
    nodes = nodes_of(votes)
    return [measure(votes.sets if name == "nominal" else nodes) for name, measure in DISTANCES.items()]


def _table(name: str, keys: list[str], alphas: NDArray[np.float64] | None = None) -> pd.DataFrame:
    """One row for each key with its alpha and interval, from draws x keys, the first row of which is the data."""
    if alphas is None:
        return pd.DataFrame({name: keys, "alpha": np.nan, "low": np.nan, "high": np.nan})
    low, high = np.full((2, len(keys)), np.nan)
    tail = 100 * (1 - CONFIDENCE) / 2
    for number, drawn in enumerate(alphas[1:].T):
        # A draw of equal labels alone says nothing.
        if not np.isnan(alphas[0, number]) and len(drawn := drawn[~np.isnan(drawn)]):
            low[number], high[number] = np.percentile(drawn, [tail, 100 - tail])
    return pd.DataFrame({name: keys, "alpha": alphas[0], "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class _Patterns:
    """What was said about photos, each different thing once: nothing else about a photo matters to alpha.

    Attributes:
        of_photo: int64, P: the pattern of each photo with two votes or more.
        pattern: int64, N: of each vote in a pattern, in ascending order; there are Q patterns.
        choice: int64, N: of each vote.
        sizes: int64, Q: votes in each pattern.
        entry_pattern, entry_label, entry_votes: int64, each E: how many of a pattern's votes name a label.
        labels: number of labels.
        sets: number of sets.
    """

    of_photo: NDArray[np.int64]
    pattern: NDArray[np.int64]
    choice: NDArray[np.int64]
    sizes: NDArray[np.int64]
    entry_pattern: NDArray[np.int64]
    entry_label: NDArray[np.int64]
    entry_votes: NDArray[np.int64]
    labels: int
    sets: int

    @classmethod
    def of(cls, votes: Votes) -> "_Patterns":
        kept = votes.sizes[votes.photo] > 1
        photo = np.unique(votes.photo[kept], return_inverse=True)[1]
        order = np.lexsort((votes.choice[kept], photo))
        rows, of_photo = distinct_groups(photo[order], votes.choice[kept][order])
        pattern, column = np.nonzero(rows >= 0)
        choice = rows[pattern, column]
        vote, label = labels_in(votes.members[choice])
        entries, entry_votes = np.unique(pattern[vote] * len(votes.labels) + label, return_counts=True)
        return cls(
            of_photo=of_photo,
            pattern=pattern,
            choice=choice,
            sizes=np.bincount(pattern),
            entry_pattern=entries // len(votes.labels),
            entry_label=entries % len(votes.labels),
            entry_votes=entry_votes,
            labels=len(votes.labels),
            sets=len(votes.members),
        )

    def weights(self, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
        """How many photos have each pattern, Q: in the data first, then in each draw of as many photos."""
        generator, photos = np.random.default_rng(seed), len(self.of_photo)
        yield np.bincount(self.of_photo).astype(np.float64)
        for _ in range(resamples):
            drawn = self.of_photo[generator.integers(0, photos, photos)]
            yield np.bincount(drawn, minlength=len(self.sizes)).astype(np.float64)

    def photos_with(self) -> NDArray[np.int64]:
        """How many photos somebody gave each label."""
        weights = np.bincount(self.of_photo)[self.entry_pattern]
        return np.bincount(self.entry_label, weights=weights, minlength=self.labels).astype(np.int64)

    def disagreement(self, distances: Distances) -> NDArray[np.float64]:
        """Sum of the distances of each pattern's ordered pairs of votes, over the votes each is compared with: Q."""
        one, other = pairs_within(self.pattern)
        found = np.bincount(
            self.pattern[one], weights=distances[self.choice[one], self.choice[other]], minlength=len(self.sizes)
        )
        return 2 * found / (self.sizes - 1)

    def class_disagreement(self) -> NDArray[np.float64]:
        """The same for each entry, between votes that name its label and those that don't: E."""
        size = self.sizes[self.entry_pattern]
        return 2 * self.entry_votes * (size - self.entry_votes) / (size - 1)


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """What alpha is made of, for the data and B draws of it: arrays of B + 1 rows, the first one of the data.

    Attributes:
        distances: between sets, by measure.
        votes: B + 1.
        disagreement: B + 1 x measures.
        chosen: B + 1 x S: votes for each set.
        named: B + 1 x L: votes for each label.
        class_disagreement: B + 1 x L.
    """

    distances: list[Distances]
    votes: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    chosen: NDArray[np.float64]
    named: NDArray[np.float64]
    class_disagreement: NDArray[np.float64]

    @classmethod
    def over(cls, patterns: _Patterns, distances: list[Distances], resamples: int, seed: int) -> "_Sums":
        observed = np.stack([patterns.disagreement(each) for each in distances], axis=1)
        class_observed, entry = patterns.class_disagreement(), (patterns.entry_label, patterns.labels)
        rows = [
            (
                weights @ patterns.sizes,
                weights @ observed,
                _count(patterns.choice, patterns.sets, weights[patterns.pattern]),
                _count(*entry, weights[patterns.entry_pattern] * patterns.entry_votes),
                _count(*entry, weights[patterns.entry_pattern] * class_observed),
            )
            for weights in patterns.weights(resamples, seed)
        ]
        votes, disagreement, chosen, named, class_disagreement = map(np.array, zip(*rows, strict=True))
        return cls(
            distances=distances,
            votes=votes,
            disagreement=disagreement,
            chosen=chosen,
            named=named,
            class_disagreement=class_disagreement,
        )

    def alphas(self) -> NDArray[np.float64]:
        """Alpha by each measure: B + 1 x measures."""
        expected = np.stack([((self.chosen @ each) * self.chosen).sum(axis=1) for each in self.distances], axis=1)
        return _alpha(self.disagreement, expected, self.votes)

    def class_alphas(self) -> NDArray[np.float64]:
        """Alpha of each label against all others: B + 1 x L."""
        expected = 2 * self.named * (self.votes[:, None] - self.named)
        return _alpha(self.class_disagreement, expected, self.votes)


def _count(numbers: NDArray[np.int64], length: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(numbers, weights=weights, minlength=length).astype(np.float64)


def _alpha(
    observed: NDArray[np.float64], expected: NDArray[np.float64], votes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """1 - observed / expected disagreement, from sums over pairs; NaN where nothing differs, so that chance is all."""
    count = votes[:, None]
    by_chance = expected / (count * (count - 1))
    known = by_chance > 0
    return np.where(known, 1 - observed / count / np.where(known, by_chance, 1.0), np.nan)
