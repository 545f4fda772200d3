"""The labelled images of a classifier: its classes, its splits, and what is odd about them, said before training."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.data.labels import counts_as, paths_in, rarest
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError

Balance = Literal["none", "class_weights", "oversample"]
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class LabelledSplits:
    """Which images train, validate and test a classifier.

    Attributes:
        images: where the pixels are.
        classes: C labels, the ones that training images have, sorted.
        train: positions of the training images; oversampling before packing shows as repeated pixels.
        valid: positions to choose the best epoch by.
        test: positions to report on.
        labels: object array, the label of each position.
        targets: int64, the number in `classes` of each position's label, -1 where training never sees it.
        groups: int64, C: which classes balancing counts as one: those of several paths belong to the rarest of these.
        notes: what a reader of the results should know, one sentence each.
    """

    images: PackedImages
    classes: tuple[str, ...]
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    labels: NDArray[np.object_]
    targets: NDArray[np.int64]
    groups: NDArray[np.int64]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, images: PackedImages) -> "LabelledSplits":
        """Find the splits of an images artefact.

        Raises:
            SparsightError: no labels, fewer than two classes to train on, or nothing to test on.
        """
        labels = images.index["label"].fillna("").to_numpy(object)
        train, valid, test = (
            positions[labels[positions] != ""] for positions in map(images.positions, ("train", "valid", "test"))
        )
        _check(images, labels, train, test)
        classes = tuple(sorted(set(labels[train])))
        number_of = {label: number for number, label in enumerate(classes)}
        targets = np.array([number_of.get(label, UNKNOWN) for label in labels], np.int64)
        notes = [*_missing_notes(classes, labels, valid, test)]
        if not len(valid):
            valid = distinct(images, train)[0]
            notes.append("No validation image: the best epoch was chosen on the training images, so it overfits.")
        if unlabelled := int((labels == "").sum()):
            notes.append(f"{unlabelled:,} images without a label were left out.")
        return cls(
            images=images,
            classes=classes,
            train=train,
            valid=valid,
            test=test,
            labels=labels,
            targets=targets,
            groups=_groups(classes, labels[train]),
            notes=tuple(notes),
        )


def _groups(classes: Sequence[str], labels: NDArray[np.object_]) -> NDArray[np.int64]:
    belongs = dict(zip(labels, rarest(labels.tolist()), strict=True))
    groups: NDArray[np.int64] = np.unique([belongs[label] for label in classes], return_inverse=True)[1]
    return groups


def _check(
    images: PackedImages, labels: NDArray[np.object_], train: NDArray[np.int64], test: NDArray[np.int64]
) -> None:
    where = f"{images.folder} ({len(images):,} images)"
    if not (labels != "").any():
        raise SparsightError(
            f"{where} has no labelled image; a classifier needs some.",
            hint="Make the dataset with connect_db's mode=labelled; unlabelled images are for train_moco.",
        )
    classes = sorted(set(labels[train]))
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no labelled image"
        raise SparsightError(
            f"The training split of {where} holds {found}; a classifier needs two classes or more.",
            hint="Label more images, or widen what connect_db takes: include, taxonomy_level, min_annotators.",
        )
    if not len(test):
        raise SparsightError(
            f"{where} has no labelled test image, so nothing could be said about the model.",
            hint="Raise connect_db's share of the test split, or label more images.",
        )


def _missing_notes(
    classes: Sequence[str], labels: NDArray[np.object_], valid: NDArray[np.int64], test: NDArray[np.int64]
) -> list[str]:
    notes = []
    known, tested = _paths(classes), _paths(labels[test])
    unseen = sorted(label for label in set(labels[test]) if not _covers(label, known))
    if unseen:
        count = int(np.isin(labels[test], unseen).sum())
        notes.append(
            f"No training image of {', '.join(unseen)}: the model can't predict it, "
            f"and its {count} test images count as wrong."
        )
    validated = _paths(labels[valid])
    if len(valid) and (missing := [label for label in classes if not _covers(label, validated)]):
        notes.append(f"No validation image of {', '.join(missing)}: the choice of the best epoch doesn't see it.")
    if missing := [label for label in classes if not _covers(label, tested)]:
        notes.append(f"No test image of {', '.join(missing)}: its F1 isn't known and isn't part of the mean.")
    return notes


def _paths(labels: Iterable[str]) -> set[str]:
    return {path for label in labels for path in paths_in(label)}


def _covers(label: str, paths: Collection[str]) -> bool:
    """Whether some of the paths lies at or below one of a label's."""
    return any(counts_as(path, label) == label for path in paths)


def distinct(images: PackedImages, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leave out positions that show the pixels of an earlier one.

    Returns:
        The positions kept, and for each position given the place of its pixels among them.
    """
    pixels = images.index[["shard", "row"]].to_numpy(np.int64)[positions]
    _, first, inverse = np.unique(pixels, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return positions[first[order]], place[inverse.ravel()]


def class_weights(targets: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Weights inverse to class frequency, n / (C * n_c), so that the mean over the images is 1."""
    counts = np.bincount(targets, minlength=classes)
    return (len(targets) / (classes * np.maximum(counts, 1))).astype(np.float32)


def epoch_order(targets: NDArray[np.int64], balance: Balance, generator: torch.Generator) -> NDArray[np.int64]:
    """Draw the order of an epoch's images, each of them at least once.

    Args:
        targets: class number of each image.
        balance: `oversample` repeats images of smaller classes, as evenly as can be, until every class has as many as
            the largest; otherwise every image comes once.
        generator: a CPU generator; it moves on.

    Returns:
        Places in `targets`.
    """
    chosen = torch.arange(len(targets))
    if balance == "oversample":
        counts = np.bincount(targets)
        parts = []
        for number in np.flatnonzero(counts):
            members = torch.from_numpy(np.flatnonzero(targets == number))
            whole, rest = divmod(int(counts.max()), len(members))
            some = members[torch.randperm(len(members), generator=generator)[:rest]]
            parts.append(torch.cat([members.repeat(whole), some]))
        chosen = torch.cat(parts)
    order: NDArray[np.int64] = chosen[torch.randperm(len(chosen), generator=generator)].numpy()
    return order
