"""Out-of-sample predictions: every labelled photo is judged by heads that were trained without it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.embeddings import Embeddings
from sparsight.data.labels import paths_in
from sparsight.data.splits import unit_hash
from sparsight.models.classifier import Head
from sparsight.models.folder import HeadDescription
from sparsight.progress import Progress
from sparsight.training.classifier import ClassifierOptions
from sparsight.training.distributed import OneProcess
from sparsight.training.fitting import Steps, make_optimizer, one_thread
from sparsight.training.labelled import class_weights, epoch_order
from sparsight.training.loop import epoch_generator
from sparsight.training.targets import FlatLabels

ROUNDS = 3
"""So many times all photos are dealt to folds anew; the mean of the rounds' predictions is less a matter of luck."""


@dataclass(frozen=True, kw_only=True)
class OutOfSample:
    """What heads say of photos that they haven't seen in training.

    Attributes:
        rows: int64, N: rows of the embeddings.
        labels: N label paths.
        classes: C label paths, sorted.
        probabilities: float32, N x C.
        left_out: photos that weren't judged, by reason.
    """

    rows: NDArray[np.int64]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    left_out: Mapping[str, int]

    @property
    def accuracy(self) -> float:
        """How often the most probable class is the label."""
        predicted = np.array(self.classes, object)[self.probabilities.argmax(axis=1)]
        return float((predicted == np.array(self.labels, object)).mean())


def judge_labels(
    embeddings: Embeddings, keys: Mapping[str, str], *, folds: int = 5, epochs: int = 20, seed: int = 0
) -> OutOfSample | None:
    """Cross-validate heads on all labelled photos, whatever their split.

    Args:
        embeddings: of a backbone that hasn't learned from these labels.
        keys: by the photo's id, what it is known by: photos with one key are never on both sides.
        folds: their number. Classes with fewer photos are left out.
        epochs: of training a head.
        seed: of the folds and the heads.

    Returns:
        The predictions; None where fewer than two classes have enough photos.
    """
    labels = embeddings.index["label"].fillna("").to_numpy(object)
    rows, left_out = _examined(labels, folds)
    classes = tuple(sorted(set(labels[rows])))
    if len(classes) < 2:
        return None
    number_of = {label: number for number, label in enumerate(classes)}
    targets = np.array([number_of[label] for label in labels[rows]], np.int64)
    known_by = [keys[photo] for photo in embeddings.index["id"].to_numpy(object)[rows]]
    values = np.asarray(embeddings.values[rows], np.float32)
    options = ClassifierOptions(epochs=epochs, batch_size=batch_size(len(rows)), seed=seed)
    progress = Progress("Cross-validating", ROUNDS * folds, "heads")
    rounds = [
        cross_validate(
            values, targets, deal_folds(known_by, labels[rows].tolist(), folds, deal), options, progress.advance
        )
        for deal in range(seed, seed + ROUNDS)
    ]
    progress.finish()
    return OutOfSample(
        rows=rows,
        labels=tuple(labels[rows]),
        classes=classes,
        probabilities=np.mean(rounds, axis=0, dtype=np.float32),
        left_out=left_out,
    )


def batch_size(photos: int) -> int:
    """Take batches so small that an epoch has ten steps: few photos would teach a head nothing in one or two."""
    return min(max(photos // 10, 8), 128)


def _examined(labels: NDArray[np.object_], least: int) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Rows with one label whose class has enough photos, and why others are left out."""
    several = np.array([len(paths_in(label)) > 1 for label in labels], bool)
    count = Counter(labels[(labels != "") & ~several])
    thin = sorted(label for label in count if count[label] < least)
    left_out = {
        "without a label": int((labels == "").sum()),
        "with several labels": int(several.sum()),
        **{f"of {label} (fewer than {least})": count[label] for label in thin},
    }
    kept = (labels != "") & ~several & ~np.isin(labels, thin)
    return np.flatnonzero(kept), {reason: photos for reason, photos in left_out.items() if photos}


def deal_folds(keys: Sequence[str], labels: Sequence[str], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Deal photos out to folds: class by class in the order of a hash, so that each fold has its share of each class.

    Photos with one key stay together, under the label of the first: of two copies of a file neither may be judged by a
    head that has seen the other.

    Args:
        keys: N, what a photo is known by: its file's hash, or its id.
        labels: N.
        folds: their number.
        seed: of the hash.

    Returns:
        int64, N: 0 to `folds` - 1.
    """
    label_of: dict[str, str] = {}
    for key, label in zip(keys, labels, strict=True):
        label_of.setdefault(key, label)
    order = sorted(label_of, key=lambda key: (label_of[key], unit_hash("fold", seed, key), key))
    # Counted on from class to class, so that what doesn't divide evenly isn't always the first folds' gain.
    fold_of = {key: place % folds for place, key in enumerate(order)}
    return np.array([fold_of[key] for key in keys], np.int64)


def cross_validate(
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int64],
    fold_of: NDArray[np.int64],
    options: ClassifierOptions,
    on_head: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Predict each photo with a head that was trained on the other folds.

    The head is `train_classifier`'s, on standardised embeddings. It runs all epochs: choosing one by the photos that
    are to be judged would let their labels in, and holding others back would cost labels.

    Args:
        embeddings: N x D.
        targets: N class numbers, from 0 on without a gap.
        fold_of: N, see `deal_folds`.
        options: of the head and its training.
        on_head: hears of each head that is done.

    Returns:
        Class probabilities, N x C.
    """
    classes = int(targets.max()) + 1
    chances = np.empty((len(targets), classes), np.float32)
    with torch.random.fork_rng([]), one_thread():
        for number in np.unique(fold_of):
            held_out = fold_of == number
            torch.manual_seed(options.seed)
            chances[held_out] = _judge(embeddings, targets, held_out, classes, options)
            on_head()
    return chances


def _judge(
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    classes: int,
    options: ClassifierOptions,
) -> NDArray[np.float32]:
    known = torch.from_numpy(embeddings[~held_out])
    std, mean = torch.std_mean(known, dim=0)
    std = std + 1e-3
    head = Head(known.shape[1], classes, HeadDescription(hidden=options.hidden, dropout=options.dropout))
    _fit(head, (known - mean) / std, targets[~held_out], classes, options)
    with torch.no_grad():
        logits = head.eval()((torch.from_numpy(embeddings[held_out]) - mean) / std)
    chances: NDArray[np.float32] = logits.softmax(dim=1).numpy()
    return chances


def _fit(head: Head, inputs: Tensor, targets: NDArray[np.int64], classes: int, options: ClassifierOptions) -> None:
    def batches(epoch: int) -> list[NDArray[np.int64]]:
        order = epoch_order(targets, options.balance, epoch_generator(options.seed, epoch))
        return np.array_split(order, -(-len(order) // options.batch_size))

    weights = class_weights(targets, classes) if options.balance == "class_weights" else None
    steps = Steps(
        head,
        make_optimizer(
            head, options.optimizer, learning_rate=options.learning_rate, backbone_ratio=1.0, decay=options.weight_decay
        ),
        total=options.epochs * len(batches(0)),
        likelihood=FlatLabels([str(number) for number in range(classes)]),
        weights=None if weights is None else torch.from_numpy(weights),
        device=inputs.device,
        precision=torch.float32,
        world=OneProcess(),
    )
    head.train()
    for epoch in range(1, options.epochs + 1):
        for batch in batches(epoch):
            steps.step(inputs[torch.from_numpy(batch)], torch.from_numpy(targets[batch]))
