"""Out-of-sample predictions: every labelled photo is judged by a head that was trained without it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsight.data.splits import unit_hash
from sparsight.models.classifier import Head
from sparsight.models.folder import HeadDescription
from sparsight.progress import Progress
from sparsight.training.classifier import ClassifierOptions
from sparsight.training.distributed import OneProcess
from sparsight.training.fitting import Steps, make_optimizer, one_thread
from sparsight.training.labelled import class_weights, epoch_order
from sparsight.training.loop import epoch_generator


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


def thin_labels(labels: Sequence[str], least: int) -> dict[str, int]:
    """Labels that fewer than `least` photos have, and how many have them, in alphabetical order."""
    return {label: count for label, count in sorted(Counter(labels).items()) if count < least}


def cross_validate(
    embeddings: NDArray[np.float32], targets: NDArray[np.int64], fold_of: NDArray[np.int64], options: ClassifierOptions
) -> NDArray[np.float32]:
    """Predict each photo with a head that was trained on the other folds.

    The head is `train_classifier`'s, on standardised embeddings. It runs all epochs: choosing one by the photos that
    are to be judged would let their labels in, and holding others back would cost labels.

    Args:
        embeddings: N x D, of a backbone that hasn't learned from these labels.
        targets: N class numbers, from 0 on without a gap.
        fold_of: N, see `deal_folds`.
        options: of the head and its training.

    Returns:
        Class probabilities, N x C.
    """
    classes = int(targets.max()) + 1
    chances = np.empty((len(targets), classes), np.float32)
    numbers = np.unique(fold_of)
    progress = Progress("Cross-validating", len(numbers), "folds")
    with torch.random.fork_rng([]), one_thread():
        for number in numbers:
            held_out = fold_of == number
            torch.manual_seed(options.seed)
            chances[held_out] = _judge(embeddings, targets, held_out, classes, options)
            progress.advance()
    progress.finish()
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
        weights=None if weights is None else torch.from_numpy(weights),
        device=inputs.device,
        precision=torch.float32,
        world=OneProcess(),
    )
    head.train()
    for epoch in range(1, options.epochs + 1):
        for batch in batches(epoch):
            steps.step(inputs[torch.from_numpy(batch)], torch.from_numpy(targets[batch]))
