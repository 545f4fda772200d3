"""The model folder of an autoencoder: its description, and weights with the context model of its bits."""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from sparsight.data.artefact import read_manifest, write_text
from sparsight.errors import SparsightError
from sparsight.models.autoencoder import Autoencoder, AutoencoderDescription
from sparsight.models.codec.contexts import Contexts, without_contexts
from sparsight.models.conv_blocks import CENTRE, CONV_BLOCKS, SPREAD, ConvBlocks
from sparsight.models.folder import (
    DESCRIPTION,
    BackboneDescription,
    Description,
    ModelDescription,
    Preprocessing,
    named_network,
    read_weights,
    write_weights,
)

_ENCODER = "encoder."


class AutoencoderModel(Description):
    """Content of an autoencoder's model.json."""

    kind: Literal["autoencoder"] = "autoencoder"
    autoencoder: AutoencoderDescription
    image_size: int = Field(description="edge of the images that were trained on, in pixels; others do as well")
    resize: Literal["fit", "crop", "squash"] = Field(description="how these were made square")
    hyperparameters: dict[str, Any] = Field(default_factory=dict)


def write_autoencoder(folder: Path, model: AutoencoderModel, network: Autoencoder, contexts: Contexts | None) -> None:
    """Write weights.safetensors and model.json into a folder (the caller's `new_artefact` adds the manifest)."""
    state: dict[str, Tensor] = dict(network.state_dict())
    write_weights(folder, state | (contexts.state() if contexts else {}))
    write_text(folder / DESCRIPTION, model.model_dump_json(indent=2) + "\n")


def read_autoencoder_model(folder: Path) -> AutoencoderModel:
    """Read and check the model.json of an autoencoder's folder.

    Raises:
        SparsightError: not a model artefact, another kind of model, or a description this version doesn't know.
    """
    read_manifest(folder, "model")
    if (kind := named_network(folder)[0]) != "autoencoder":
        raise SparsightError(
            f"{folder} holds a {kind}; expected an autoencoder.", hint="Train one with train_autoencoder."
        )
    return parse_autoencoder_model(folder)


def parse_autoencoder_model(folder: Path) -> AutoencoderModel:
    """Read a model.json beside which there need be no manifest."""
    try:
        return AutoencoderModel.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise SparsightError(f"{folder / DESCRIPTION} isn't an autoencoder's description: {error}") from error


def load_autoencoder(folder: Path) -> tuple[Autoencoder, Contexts | None]:
    """Open an autoencoder in evaluation mode, on the CPU, and the context model of its bits, where it has bits.

    Raises:
        SparsightError: not a model artefact of an autoencoder, or a damaged one.
    """
    return open_autoencoder(read_autoencoder_model(folder), read_weights(folder), folder)


def open_autoencoder(
    model: AutoencoderModel, weights: dict[str, Tensor], origin: Path
) -> tuple[Autoencoder, Contexts | None]:
    """Build what a description tells of, with these weights; `origin` is named in errors."""
    network = Autoencoder(model.autoencoder)
    try:
        network.load_state_dict(without_contexts(weights))
        contexts = Contexts.of_state(weights) if model.autoencoder.binary else None
    except (KeyError, RuntimeError) as error:
        raise _unfit(origin, error) from error
    return network.to(memory_format=torch.channels_last).eval(), contexts


def load_encoder(folder: Path) -> tuple[ConvBlocks, ModelDescription]:
    """Open the encoder of an autoencoder as a backbone for a classifier, in evaluation mode, on the CPU.

    Raises:
        SparsightError: not a model artefact of an autoencoder, a damaged one, or one of another design.
    """
    model = read_autoencoder_model(folder)
    if model.autoencoder.design != CONV_BLOCKS:
        raise SparsightError(
            f"{folder} holds an autoencoder of the design {model.autoencoder.design}, whose encoder is no backbone.",
            hint=f"Train one with train_autoencoder's design={CONV_BLOCKS}, or a backbone with train_moco.",
        )
    backbone, weights = ConvBlocks(), read_weights(folder)
    try:
        backbone.load_state_dict({name: each for name, each in weights.items() if name.startswith(_ENCODER)})
    except RuntimeError as error:
        raise _unfit(folder, error) from error
    preprocessing = Preprocessing(image_size=model.image_size, resize=model.resize, mean=CENTRE, std=SPREAD)
    network = BackboneDescription(name=CONV_BLOCKS, small_image_stem=False)
    return backbone.eval(), ModelDescription(
        kind="backbone", backbone=network, preprocessing=preprocessing, hyperparameters=model.hyperparameters
    )


def _unfit(origin: Path, error: Exception) -> SparsightError:
    return SparsightError(f"The weights in {origin} don't fit its model.json: {error}")
