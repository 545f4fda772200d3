"""Where a classifier's backbone comes from: the registry, a folder, ImageNet weights, or none."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sparsight.errors import SparsightError
from sparsight.models.backbones import backbone_preprocessing, create_backbone, wants_small_image_stem
from sparsight.models.classifier import load_backbone
from sparsight.models.folder import BackboneDescription
from sparsight.stores.models import fetch_model, is_reference

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
    """

    backbone: nn.Module
    description: BackboneDescription
    mean: Channels
    std: Channels
    origin: str
    image_size: int | None


def open_base_model(base_model: str, folder: Path | None, *, backbone: str, image_size: int, seed: int) -> BaseModel:
    """Open what a classifier stands on. Of a model artefact only the (query) backbone is loaded.

    Args:
        base_model: `none` (random weights), `imagenet`, a registered model (`name@latest`, `name/3`), or the path of
            a model folder.
        folder: a model folder from an earlier step; takes the place of `base_model`.
        backbone: the network to build for `none` and `imagenet`.
        image_size: of the images to classify; decides the stem for `none`.
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
        return _from_folder(folder, str(folder))
    if base_model in {"none", "imagenet"}:
        return _from_nothing(backbone, image_size, seed, pretrained=base_model == "imagenet")
    if Path(base_model).is_dir():
        return _from_folder(Path(base_model), base_model)
    if is_reference(base_model):
        with tempfile.TemporaryDirectory(prefix="sparsight-") as place:
            return _from_folder(fetch_model(base_model, Path(place) / "model"), base_model)
    raise SparsightError(
        f"base_model {base_model!r} is neither a folder that is there nor a registered model; "
        "expected none, imagenet, name@latest, name/3, or a folder."
    )


def _from_folder(folder: Path, origin: str) -> BaseModel:
    backbone, description = load_backbone(folder)
    preprocessing = description.preprocessing
    return BaseModel(
        backbone=backbone,
        description=description.backbone,
        mean=preprocessing.mean,
        std=preprocessing.std,
        origin=origin,
        image_size=preprocessing.image_size,
    )


def _from_nothing(name: str, image_size: int, seed: int, *, pretrained: bool) -> BaseModel:
    mean, std, trained_size = backbone_preprocessing(name)
    small = wants_small_image_stem(image_size) and not pretrained
    description = BackboneDescription(name=name, small_image_stem=small)
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
    )
