"""The model artefact: weights and a description from which a model opens by itself, no pickle anywhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sparsight.data.artefact import read_manifest, write_text
from sparsight.errors import SparsightError

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"
Decision = Literal["confident", "expected_distance"]


class Description(BaseModel):
    """Base of what model.json holds: unknown fields are refused, nothing changes after it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneDescription(Description):
    """Which network turns an image into an embedding."""

    name: str = Field(description="a timm ResNet's name, or one of ours (see models.backbones)")
    small_image_stem: bool = Field(description="3x3 stride-1 first convolution and no max-pool, for inputs under 64 px")


class HeadDescription(Description):
    """Linear - ReLU - dropout - linear."""

    hidden: int
    dropout: float


class Preprocessing(Description):
    """What an image goes through before the network."""

    image_size: int = Field(description="height and width in pixels")
    resize: Literal["fit", "crop", "squash"]
    mean: tuple[float, float, float] = Field(description="of pixels scaled to 0..1, by channel")
    std: tuple[float, float, float]


class HierarchyDescription(Description):
    """How a classifier's logits become probabilities of a tree's nodes, and which node is the answer."""

    heads: Literal["per_parent", "leaves"] = Field(description="a softmax for each parent, or one over the leaves")
    temperatures: dict[str, float] = Field(description="by head: what its logits are divided by; the root is ''")
    decision: Decision = Field(
        description="the deepest node that is sure enough, or the leaf of the least expected distance to the true one"
    )
    threshold: float = Field(description="the probability from which a node is sure enough")
    reject: tuple[str, ...] = Field(default=(), description="nodes at or below which an image is none to classify")


class ModelDescription(Description):
    """Content of model.json: architecture, preprocessing and hyperparameters."""

    kind: Literal["backbone", "classifier"]
    backbone: BackboneDescription
    head: HeadDescription | None = None
    hierarchy: HierarchyDescription | None = None
    classes: tuple[str, ...] = Field(default=(), description="label paths that the head's logits stand for, in order")
    preprocessing: Preprocessing
    hyperparameters: dict[str, Any] = {}


def write_model(folder: Path, description: ModelDescription, state: dict[str, torch.Tensor]) -> None:
    """Write weights.safetensors and model.json into a folder (the caller's `new_artefact` adds the manifest)."""
    write_weights(folder, state)
    write_text(folder / DESCRIPTION, description.model_dump_json(indent=2) + "\n")


def write_weights(folder: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as weights.safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / WEIGHTS)


def named_network(folder: Path) -> tuple[str, str]:
    """Say what kind of model a folder's model.json tells of, and its network: the backbone's name, or the design.

    Returns:
        `backbone`, `classifier` or `autoencoder`; and the network's name.

    Raises:
        SparsightError: there is no such file, or it tells nothing of the kind.
    """
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        kind = str(told["kind"])
        return kind, str(told["autoencoder"]["design"] if kind == "autoencoder" else told["backbone"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SparsightError(f"{folder / DESCRIPTION} isn't a model description: {error!r}.") from error


def read_description(folder: Path) -> ModelDescription:
    """Read and check the model.json of a backbone's or classifier's folder.

    Raises:
        SparsightError: not a model artefact, another kind of model, or a description this version doesn't know.
    """
    read_manifest(folder, "model")
    if (kind := named_network(folder)[0]) == "autoencoder":
        raise SparsightError(
            f"{folder} holds an {kind}; expected a backbone or a classifier.",
            hint="Train one with train_moco or train_classifier.",
        )
    try:
        return ModelDescription.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise SparsightError(f"{folder / DESCRIPTION} isn't a model description: {error}") from error


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read a model folder's weights onto the CPU.

    Raises:
        SparsightError: the file is missing or damaged.
    """
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise SparsightError(f"{folder / WEIGHTS} can't be read: {error}") from error
