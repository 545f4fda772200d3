"""The classifier: a backbone and a head of linear - ReLU - dropout - linear; opens model artefacts."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsight.data.artefact import read_manifest
from sparsight.errors import SparsightError
from sparsight.models.autoencoder_folder import load_encoder
from sparsight.models.backbones import create_backbone
from sparsight.models.folder import HeadDescription, ModelDescription, named_network, read_description, read_weights

BACKBONE_PREFIX = "backbone."


class Head(nn.Sequential):
    """Linear - ReLU - dropout - linear: from N x `features` embeddings to N x `classes` logits."""

    def __init__(self, features: int, classes: int, description: HeadDescription) -> None:
        super().__init__(
            nn.Linear(features, description.hidden),
            nn.ReLU(),
            nn.Dropout(description.dropout),
            nn.Linear(description.hidden, classes),
        )

    @torch.no_grad()
    def absorb_standardisation(self, mean: Tensor, std: Tensor) -> None:
        """Make the head take raw embeddings after it was trained on standardised ones.

        (x - mean) / std is an affine map, so the first layer holds it with weights and bias of its own.

        Args:
            mean: float, `features`.
            std: float, `features`, positive.
        """
        first = self[0]
        assert isinstance(first, nn.Linear)  # noqa: S101 -- for the type checker
        first.weight.div_(std)
        first.bias.sub_(first.weight @ mean)


class Classifier(nn.Module):
    """A backbone under a head. State names are `backbone.*` and `head.*`.

    Args:
        backbone: maps N x 3 x H x W images to N x `num_features` embeddings.
        head: maps embeddings to logits.
    """

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Turn normalised images, float N x 3 x H x W, into logits, float N x classes."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


def load_classifier(folder: Path) -> tuple[Classifier, ModelDescription]:
    """Open a model artefact as a classifier in evaluation mode, on the CPU.

    Raises:
        SparsightError: not a model artefact, damaged, or one of kind `backbone`.
    """
    description = read_description(folder)
    if description.head is None:
        raise SparsightError(
            f"{folder} holds a {description.kind}, which gives embeddings; expected a classifier.",
            hint="Train one on top of it with train_classifier.",
        )
    return open_classifier(description, read_weights(folder), folder).eval(), description


def load_backbone(folder: Path) -> tuple[nn.Module, ModelDescription]:
    """Open only the backbone of a model artefact, in evaluation mode, on the CPU.

    That is the query backbone, a classifier's backbone, or the encoder of an autoencoder of convolution blocks.

    Raises:
        SparsightError: not a model artefact, damaged, or an autoencoder of another design.
    """
    read_manifest(folder, "model")
    if named_network(folder)[0] == "autoencoder":
        return load_encoder(folder)
    description = read_description(folder)
    return open_backbone(description, read_weights(folder), folder).eval(), description


def open_classifier(description: ModelDescription, weights: Mapping[str, Tensor], origin: Path) -> Classifier:
    """Build the classifier that a description tells of, with these weights; `origin` is named in errors."""
    model = new_classifier(description)
    _load(model, weights, origin)
    return model


def open_backbone(description: ModelDescription, weights: Mapping[str, Tensor], origin: Path) -> nn.Module:
    """Build the backbone that a description tells of, with its part of these weights."""
    backbone = create_backbone(description.backbone)
    if description.kind == "classifier":
        weights = {
            name.removeprefix(BACKBONE_PREFIX): tensor
            for name, tensor in weights.items()
            if name.startswith(BACKBONE_PREFIX)
        }
    _load(backbone, weights, origin)
    return backbone


def new_classifier(description: ModelDescription) -> Classifier:
    """Build the classifier that a description tells of, with random weights."""
    assert description.head is not None  # noqa: S101 -- the caller's duty
    backbone = create_backbone(description.backbone)
    return Classifier(backbone, Head(backbone.num_features, len(description.classes), description.head))


def _load(model: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SparsightError(
            f"{origin}: the weights don't fit the network that model.json describes: {error}"
        ) from error
