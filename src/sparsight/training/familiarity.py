"""Learns what a classifier has seen, so that it can tell photos unlike any of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.data.augment import normalise
from sparsight.data.packed import PackedImages
from sparsight.models.familiarity import Familiarity, traits
from sparsight.models.folder import Preprocessing
from sparsight.training.inference import apply
from sparsight.training.labelled import LabelledSplits, distinct

FEWEST = 20
"""A quantile of fewer validation images says nothing."""
_MOST = 20_000
"""Images of a split that are embedded, at most: more change neither means nor a quantile."""
_FOLDS = 5


def learn_familiarity(backbone: nn.Module, splits: LabelledSplits, preprocessing: Preprocessing) -> Familiarity:
    """Learn from the training images, and calibrate on the validation images.

    Where there are fewer than FEWEST of these, training images are held out by turns in their place.

    Args:
        backbone: of the trained classifier, in evaluation mode.
        splits: what it was trained on.
        preprocessing: what its input is.
    """
    train = _some(distinct(splits.images, splits.train)[0])
    labels = splits.labels[train]
    embeddings = _embed(backbone, splits.images, train, preprocessing)
    valid = _some(splits.valid[np.isin(splits.valid, splits.images.positions("valid"))])
    if len(valid) >= FEWEST:
        fitted = fit(embeddings, labels)
        distances = fitted(_embed(backbone, splits.images, valid, preprocessing))
    else:
        fitted, distances = fit(embeddings, labels), held_out_distances(embeddings, labels)
    return Familiarity(fitted.means, fitted.whitening, distances.sort().values)


def fit(embeddings: Tensor, labels: NDArray[np.object_]) -> Familiarity:
    """Learn means and shared covariance from float N x D embeddings and N labels; the calibration is still to come.

    The covariance is shrunk towards a sphere as Ledoit and Wolf 2004 (doi 10.1016/S0047-259X(03)00096-4) tell: photos
    may be fewer than dimensions.
    """
    from sklearn.covariance import ledoit_wolf

    values = traits(embeddings).double().numpy()
    # All traits are brought to one scale; one that hardly ever moves isn't blown up.
    scale = values.std(axis=0)
    scale += 0.1 * np.median(scale) + 1e-6
    values /= scale
    _, numbers, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), values.shape[1]))
    np.add.at(means, numbers, values)
    means /= counts[:, None]
    spread = values - means[numbers]
    covariance = ledoit_wolf(spread, assume_centered=True)[0] if len(spread) > 1 else np.zeros((spread.shape[1],) * 2)
    # Where no class has two images nothing spreads within classes; a little keeps the covariance whole.
    inverse = np.linalg.inv(covariance + 1e-3 * np.eye(len(covariance)))
    whitening = np.linalg.cholesky(inverse) / np.sqrt(len(inverse)) / scale[:, None]
    tensors = (torch.from_numpy(each.astype(np.float32)) for each in (means * scale, whitening, np.zeros(1)))
    return Familiarity(*tensors)


def held_out_distances(embeddings: Tensor, labels: NDArray[np.object_]) -> Tensor:
    """Distances, float32 N, of embeddings to what is learned without them, a fifth of each class at a time."""
    _, numbers = np.unique(labels.astype(str), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % _FOLDS
    distances = torch.empty(len(order))
    for number in np.unique(fold):
        out = fold == number
        distances[out] = fit(embeddings[~out], labels[~out])(embeddings[out])
    return distances


def _some(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take evenly spaced ones where there are many."""
    return positions[:: -(-len(positions) // _MOST) or 1]


def _embed(
    backbone: nn.Module, images: PackedImages, positions: NDArray[np.int64], preprocessing: Preprocessing
) -> Tensor:
    device = next(backbone.parameters()).device

    def view(pixels: Tensor) -> Tensor:
        return normalise(pixels, preprocessing.mean, preprocessing.std)

    return apply(backbone, images, positions, view, device).cpu()
