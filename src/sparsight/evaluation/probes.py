"""Probes of a backbone: embeddings, and a weighted k-nearest-neighbour classifier on them."""

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.data.augment import normalise
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.folder import Preprocessing
from sparsight.models.precision import mixed

NEIGHBOURS = 200
TEMPERATURE = 0.1
BATCH = 256


@torch.inference_mode()
def embed(
    backbone: nn.Module,
    images: PackedImages,
    positions: NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Embed packed images, without augmentation, in evaluation mode; the backbone's mode is put back.

    Returns:
        float32, N x D, on the CPU, in the order of `positions`.
    """
    was_training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    parts = []
    for start in range(0, len(positions), BATCH):
        pixels = torch.from_numpy(images.gather(positions[start : start + BATCH])).to(device)
        with mixed(device, precision):
            parts.append(backbone(normalise(pixels, preprocessing.mean, preprocessing.std)).float().cpu())
    backbone.train(was_training)
    return torch.cat(parts)


def knn_predict(bank: Tensor, labels: Tensor, queries: Tensor, *, k: int, temperature: float = TEMPERATURE) -> Tensor:
    """Classify by a vote of the k nearest of a bank, weighted by exp(cosine similarity / temperature).

    Wu et al. 2018, arXiv 1805.01978, section 3.4.

    Args:
        bank: float, N x D.
        labels: int64, N: classes from 0.
        queries: float, Q x D.
        k: neighbours that vote; at most N do.
        temperature: the lower, the more the nearest ones count.

    Returns:
        int64, Q: the classes with most votes.
    """
    known, classes = functional.normalize(bank, dim=1).T, int(labels.max()) + 1
    found = []
    for part in torch.split(functional.normalize(queries, dim=1), BATCH):
        nearest = (part @ known).topk(min(k, len(bank)), dim=1)
        votes = torch.zeros(len(part), classes, dtype=nearest.values.dtype)
        votes.scatter_add_(1, labels[nearest.indices], ((nearest.values - 1) / temperature).exp())
        found.append(votes.argmax(dim=1))
    return torch.cat(found)


class KnnProbe:
    """Tells how well labels can be read off a backbone, while it trains.

    The train split of the labelled images is the bank, the valid split asks; the test split stays unseen.

    Args:
        images: labelled packed images.
        preprocessing: what the backbone expects.
        precision: of matrix products.

    Raises:
        SparsightError: no labelled images in one of both splits, or images of another size.
    """

    def __init__(
        self, images: PackedImages, preprocessing: Preprocessing, *, precision: torch.dtype = torch.float32
    ) -> None:
        if images.size != (preprocessing.image_size,) * 2:
            raise SparsightError(
                f"{images.folder} holds images of {images.size[0]} x {images.size[1]} pixels; the backbone "
                f"is trained on {preprocessing.image_size} x {preprocessing.image_size}.",
                hint="Prepare both with the same image_size.",
            )
        self.images, self.preprocessing, self.precision = images, preprocessing, precision
        self.bank, self.queries = (_labelled(images, split) for split in ("train", "valid"))
        names = images.index["label"].to_numpy(str)
        self.classes: list[str] = sorted(set(names[self.bank]))
        self._bank_labels = self._numbers(names[self.bank])
        self._query_labels = self._numbers(names[self.queries])

    def _numbers(self, names: NDArray[np.str_]) -> Tensor:
        number = {name: place for place, name in enumerate(self.classes)}
        return torch.tensor([number.get(name, -1) for name in names])

    def __call__(self, backbone: nn.Module) -> dict[str, float]:
        """Measure a backbone: the part of queries that the bank's vote gets right."""
        embeddings = embed(backbone, self.images, self.positions, self.preprocessing, precision=self.precision)
        bank, queries = embeddings[: len(self.bank)], embeddings[len(self.bank) :]
        right = knn_predict(bank, self._bank_labels, queries, k=self.neighbours) == self._query_labels
        return {"knn_accuracy": float(right.float().mean())}

    @property
    def positions(self) -> NDArray[np.int64]:
        """Positions of the bank and of the queries, in this order."""
        return np.concatenate([self.bank, self.queries])

    @property
    def neighbours(self) -> int:
        """How many vote: half of what a class holds on average, at most 200."""
        return max(1, min(NEIGHBOURS, len(self.bank) // (2 * len(self.classes))))

    @property
    def majority(self) -> float:
        """What always saying the bank's most frequent class would reach."""
        return float((self._query_labels == self._bank_labels.mode().values).float().mean())


def _labelled(images: PackedImages, split: str) -> NDArray[np.int64]:
    positions = images.positions(split)
    chosen = positions[images.index["label"].to_numpy()[positions] != ""]
    chosen = chosen[~images.index.iloc[chosen].duplicated(["shard", "row"]).to_numpy()]
    if not len(chosen):
        raise SparsightError(
            f"{images.folder} has no labelled images in its {split} split; the kNN probe needs train and valid.",
            hint="Give more labelled images, another split ratio, or no probe_images.",
        )
    return np.asarray(chosen, np.int64)
