"""Where a classifier's backbone comes from: the registry, a folder, ImageNet weights, or none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsight.errors import SparsightError
from sparsight.models.backbones import backbone_preprocessing, create_backbone, describe_backbone
from sparsight.models.classifier import load_backbone
from sparsight.models.folder import BackboneDescription
from sparsight.stores.models import fetched_version, model_folder
from sparsight.stores.registry import is_reference

FOLDER = "the weights of a model folder"
Channels = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A backbone to start from.

    Attributes:
        backbone: maps images to embeddings.
        description: tells how to build it.
        mean: what to take off its input, by channel, of pixels scaled to 0..1.
        std: what to divide that by.
        origin: where the weights are from, for people.
        image_size: what it was trained on, in pixels; None where it hasn't been.
        hyperparameters: what it was trained with, where that is known.
        version: which version of a registered model it is, whatever alias it was asked for by; else empty.
    """

    backbone: nn.Module
    description: BackboneDescription
    mean: Channels
    std: Channels
    origin: str
    image_size: int | None
    hyperparameters: dict[str, Any]
    version: str = ""

    def notes(self, image_size: int) -> list[str]:
        """What a reader of the results should know when images of this size go through it."""
        if self.image_size in (None, image_size):
            return []
        return [f"The backbone was trained on {self.image_size}-pixel images and sees {image_size}-pixel ones here."]


def open_base_model(
    base_model: str,
    folder: Path | None,
    *,
    backbone: str,
    image_size: int,
    small_image_stem: str = "auto",
    seed: int = 0,
) -> BaseModel:
    """Open what a classifier stands on. Of a model artefact only the (query) backbone is loaded.

    Args:
        base_model: `none` (random weights), `imagenet`, a registered model (`name@latest`, `name@production`,
            `name/3`), or the path of a model folder.
        folder: a model folder from an earlier step; takes the place of `base_model`.
        backbone: the network to build for `none` and `imagenet`.
        image_size: of the images to classify.
        small_image_stem: of the network for `none`: `on`, `off`, or `auto`, which goes by the image size.
        seed: of the random weights.

    Raises:
        SparsightError: both a base model and a folder are given, there is no such model, or it can't be opened.
    """
    if folder is not None:
        if base_model != "none":
            raise SparsightError(
                f"Both base_model ({base_model!r}) and base_model_folder ({folder}) are given; expected one of them.",
                hint="Leave base_model at 'none' to use the folder.",
            )
        return _from_folder(folder, FOLDER, fetched_version(folder))
    if base_model == "imagenet":
        small_image_stem = "off"
    if base_model in {"none", "imagenet"}:
        description = describe_backbone(backbone, small_image_stem, image_size)
        return _from_nothing(description, seed, pretrained=base_model == "imagenet")
    if not (Path(base_model).is_dir() or is_reference(base_model)):
        raise SparsightError(
            f"{base_model!r} is neither a folder that is there nor a registered model; "
            "expected none, imagenet, name@latest, name/3, or a folder."
        )
    with model_folder(base_model) as (found, version):
        origin = FOLDER if Path(base_model).is_dir() else base_model
        return _from_folder(found, origin, version)


def _from_folder(folder: Path, origin: str, version: str) -> BaseModel:
    backbone, description = load_backbone(folder)
    preprocessing = description.preprocessing
    return BaseModel(
        backbone=backbone,
        description=description.backbone,
        mean=preprocessing.mean,
        std=preprocessing.std,
        origin=origin,
        image_size=preprocessing.image_size,
        hyperparameters=description.hyperparameters,
        version=version,
    )


def _from_nothing(description: BackboneDescription, seed: int, *, pretrained: bool) -> BaseModel:
    mean, std, trained_size = backbone_preprocessing(description.name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = create_backbone(description, pretrained=pretrained)
    return BaseModel(
        backbone=network,
        description=description,
        mean=mean,
        std=std,
        origin="ImageNet weights" if pretrained else "random weights",
        image_size=trained_size if pretrained else None,
        hyperparameters={},
    )
