"""Labels that are likely wrong: confident learning on out-of-sample predictions, and on what each annotator said."""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparsight.data.labels import is_under, split_path
from sparsight.evaluation.votes import PHOTO

SUSPECTED = "suspected.csv"
COLUMNS = ["rank", *PHOTO, "uri", "split", "label", "suggested", "quality", "probability", "said"]
Probabilities = NDArray[np.float64]


def find_label_errors(
    labels: Sequence[str],
    classes: Sequence[str],
    probabilities: NDArray[np.floating],
    said: Sequence[Mapping[str, Sequence[str]]] | None = None,
) -> pd.DataFrame:
    """Find labels that are likely wrong.

    How many are wrong is estimated by confident learning (Northcutt et al. 2021, arXiv 1911.00068): a photo counts
    where the model gives another class at least the probability that it gives that class's own photos on average. So
    many labels are suspected, those with the lowest quality. Quality is the model's probability of the label; where
    some photos have several annotators, it is CROWDLAB's (Goh et al. 2022, arXiv 2210.06812), which weighs the model
    and everybody who labelled the photo. A label doesn't contradict one above or below it in the taxonomy: where the
    model is for such a one, nothing is suspected.

    Args:
        labels: N, one label path each, each of them a class.
        classes: C label paths.
        probabilities: N x C, of a model that hasn't seen the photo in training.
        said: for each photo, the labels that each annotator gave; without it, quality is the model's alone.

    Returns:
        N rows in the order given: label, suggested (the most probable class that contradicts the label), quality (0 to
        1), probability (of what is suggested), suspected (bool).
    """
    number_of = {label: number for number, label in enumerate(classes)}
    targets = np.array([number_of[label] for label in labels], np.int64)
    exact = _normalised(probabilities)
    everyone = np.arange(len(targets))
    quality = exact[everyone, targets] if said is None else _crowd_quality(targets, classes, exact, said)
    others = np.where(_contradicting(classes)[targets], exact, -1.0)
    suggested = others.argmax(axis=1)
    contradicted = np.flatnonzero(exact.argmax(axis=1) == suggested)
    worst = contradicted[np.argsort(quality[contradicted], kind="stable")][: _estimated_errors(targets, exact)]
    columns = {"label": labels, "suggested": np.array(classes, object)[suggested], "quality": quality}
    probability = np.maximum(others[everyone, suggested], 0.0)
    return pd.DataFrame({**columns, "probability": probability, "suspected": np.isin(everyone, worst)})


def list_suspects(
    found: pd.DataFrame, photos: pd.DataFrame, said: Sequence[Mapping[str, Sequence[str]]]
) -> pd.DataFrame:
    """List the suspected labels, the most suspect first.

    Args:
        found: what `find_label_errors` says of N photos.
        photos: the same photos: columns container, id, uri, split.
        said: for each, the labels that each annotator gave.

    Returns:
        Columns rank (from 1), container, id, uri, split, label, suggested, quality, probability, said (JSON).
    """
    columns = [*PHOTO, "uri", "split"]
    both = pd.concat([photos[columns].reset_index(drop=True), found.reset_index(drop=True)], axis=1)
    both["said"] = [json.dumps(each, ensure_ascii=False) for each in said]
    listed = both[both["suspected"]].sort_values(["quality", *PHOTO], ignore_index=True)
    return listed.assign(rank=range(1, len(listed) + 1)).reindex(columns=COLUMNS)


def no_suspects() -> pd.DataFrame:
    """The list where no label could be examined."""
    return pd.DataFrame(columns=COLUMNS)


def _normalised(probabilities: NDArray[np.floating]) -> Probabilities:
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return exact


def _estimated_errors(targets: NDArray[np.int64], probabilities: Probabilities) -> int:
    from cleanlab.count import num_label_issues

    return int(num_label_issues(targets, probabilities))


def _contradicting(classes: Sequence[str]) -> NDArray[np.bool_]:
    """Whether two classes exclude each other, as neither lies at or below the other: bool, C x C."""
    paths = [split_path(label) for label in classes]
    return np.array([[not (is_under(one, other) or is_under(other, one)) for other in paths] for one in paths])


def _crowd_quality(
    targets: NDArray[np.int64],
    classes: Sequence[str],
    probabilities: Probabilities,
    said: Sequence[Mapping[str, Sequence[str]]],
) -> Probabilities:
    """CROWDLAB's quality of each label, which is that of the votes for it; the model's alone where there are none."""
    from cleanlab.multiannotator import get_label_quality_multiannotator

    votes = _votes(targets, classes, said)
    quality: Probabilities = probabilities[np.arange(len(votes)), targets]
    named = (votes == targets[:, None]).any(axis=1)
    votes = votes[named][:, ~np.isnan(votes[named]).all(axis=0)]
    if (np.count_nonzero(~np.isnan(votes), axis=1) < 2).all():
        return quality
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of annotators who never agree; the agreement says so
        found = get_label_quality_multiannotator(
            votes,
            probabilities[named],
            consensus_method="majority_vote",
            calibrate_probs=True,
            return_annotator_stats=False,
            verbose=False,
        )
    of_votes = found["detailed_label_quality"].to_numpy(np.float64)
    quality[named] = np.where(votes == targets[named, None], of_votes, 0).max(axis=1)
    return quality


def _votes(
    targets: NDArray[np.int64], classes: Sequence[str], said: Sequence[Mapping[str, Sequence[str]]]
) -> NDArray[np.float64]:
    """The class that each annotator gave each photo, NaN for none: N x A.

    Who named something at or below a photo's label gave that label; others gave the class that is nearest above what
    they named.
    """
    annotators = {annotator: place for place, annotator in enumerate(sorted({who for each in said for who in each}))}
    class_of = _classes_above(classes, {label for each in said for given in each.values() for label in given})
    paths = {label: split_path(label) for label in {*class_of, *classes}}
    votes = np.full((len(said), len(annotators)), np.nan)
    for row, (each, target) in enumerate(zip(said, targets.tolist(), strict=True)):
        for who, given in each.items():
            supports = any(is_under(paths[label], paths[classes[target]]) for label in given)
            votes[row, annotators[who]] = target if supports else class_of[given[0]]
    return votes


def _classes_above(classes: Sequence[str], labels: Iterable[str]) -> dict[str, float]:
    """For each label the number of the deepest class at or above it, NaN where there is none."""
    number_of = {split_path(label): number for number, label in enumerate(classes)}
    found = {}
    for label in labels:
        path = split_path(label)
        above = (number_of[path[:depth]] for depth in range(len(path), 0, -1) if path[:depth] in number_of)
        found[label] = float(next(above, np.nan))
    return found
