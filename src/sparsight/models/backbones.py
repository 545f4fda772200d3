"""Backbones by name: timm's ResNets, narrow ones of our own, a stem for small images, and convolution blocks."""

import difflib
import hashlib
from dataclasses import dataclass
from typing import Any, cast

import timm
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from sparsight.errors import SparsightError
from sparsight.models.conv_blocks import CENTRE, CONV_BLOCKS, SMALL, SPREAD, ConvBlocks
from sparsight.models.folder import BackboneDescription

SMALL_IMAGE = 64
"""Inputs with fewer pixels a side than this take the small-image stem unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class _Narrow:
    """A ResNet of basic blocks that two CPU cores can train; without a max-pool, as it is meant for small photos."""

    layers: tuple[int, int, int, int]
    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    image_size: int = 64


_OURS = {
    "resnet10_narrow": _Narrow(layers=(1, 1, 1, 1)),
    "resnet18_narrow": _Narrow(layers=(2, 2, 2, 2)),
}


Backbone = ResNet | ConvBlocks


def backbone_names() -> list[str]:
    """Names that `create_backbone` takes: our own first, then every ResNet of timm."""
    return [*_OURS, CONV_BLOCKS, *timm.list_models(module="resnet")]


def wants_small_image_stem(image_size: int) -> bool:
    """Tell whether images of so many pixels a side are better off with the small-image stem.

    An ordinary ResNet shrinks its input by 32, which leaves a single position of a 32-pixel image.
    """
    return image_size < SMALL_IMAGE


def describe_backbone(name: str, small_image_stem: str, image_size: int) -> BackboneDescription:
    """Decide on a backbone's stem.

    Args:
        name: as `create_backbone` takes it.
        small_image_stem: `on`, `off`, or `auto`, which goes by the image size.
        image_size: pixels a side.

    Raises:
        SparsightError: no such backbone, another word for the stem, or a backbone without that stem.
    """
    check_name(name)
    if small_image_stem not in {"auto", "on", "off"}:
        raise SparsightError(f"small_image_stem is {small_image_stem!r}; expected auto, on or off.")
    if name == CONV_BLOCKS:
        if small_image_stem == "on":
            raise SparsightError(f"{name} is for small images as it is.", hint="Leave small_image_stem at auto.")
        return BackboneDescription(name=name, small_image_stem=False)
    small = wants_small_image_stem(image_size) if small_image_stem == "auto" else small_image_stem == "on"
    return BackboneDescription(name=name, small_image_stem=small)


def backbone_preprocessing(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float], int]:
    """Find what a backbone wants its images to be; of ResNets from timm's own configuration.

    Returns:
        Mean and standard deviation by channel, of pixels scaled to 0..1, and height and width in pixels.

    Raises:
        SparsightError: no such backbone.
    """
    check_name(name)
    if name == CONV_BLOCKS:
        return CENTRE, SPREAD, SMALL
    configuration = timm.get_pretrained_cfg("resnet18" if name in _OURS else name)
    assert configuration is not None  # noqa: S101 -- check_name has seen the name in timm's own list
    mean, std = configuration.mean, configuration.std
    size = _OURS[name].image_size if name in _OURS else configuration.input_size[-1]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), int(size)


def create_backbone(description: BackboneDescription, *, pretrained: bool = False) -> Backbone:
    """Build a backbone that turns images into embeddings.

    Input is float N x 3 x H x W (greyscale photos have their channel repeated), output float N x `num_features`: the
    average of the last feature map, without a head; of convolution blocks the maxima of its fields.

    Args:
        description: name and stem.
        pretrained: load timm's default ImageNet weights, from the local cache or else from the Hugging Face hub.

    Raises:
        SparsightError: no such backbone, no weights for it, or weights that can't be had.
    """
    check_name(description.name)
    if pretrained:
        return _create_pretrained(description)
    if description.name == CONV_BLOCKS:
        return ConvBlocks()
    backbone = _create_narrow(_OURS[description.name]) if description.name in _OURS else _create(description.name)
    if description.small_image_stem:
        _use_small_image_stem(backbone)
    return backbone


def check_name(name: str) -> None:
    """Refuse a name that isn't a backbone's, naming the nearest ones."""
    names = backbone_names()
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=4, cutoff=0.4)
        raise SparsightError(
            f"There is no backbone {name!r}.",
            hint=f"Did you mean {', '.join(nearest)}?" if nearest else f"Take one of {', '.join(names[:8])}, ...",
        )


def _create(name: str, *, pretrained: bool = False, **options: Any) -> ResNet:
    model = timm.create_model(name, pretrained=pretrained, num_classes=0, zero_init_last=False, **options)
    return cast(ResNet, model)


def _create_narrow(shape: _Narrow) -> ResNet:
    model = _create("resnet18", layers=shape.layers, channels=shape.channels)
    width = shape.channels[0]
    # timm's plain stem is 64 wide whatever is asked for; the first block would have to narrow it at full resolution.
    model.add_module("conv1", _convolution(nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)))
    model.add_module("bn1", nn.BatchNorm2d(width))
    model.add_module("maxpool", nn.Identity())
    first = BasicBlock(width, width)
    _convolution(first.conv1)
    _convolution(first.conv2)
    cast(nn.Sequential, model.layer1)[0] = first
    return model


def _convolution(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _use_small_image_stem(model: ResNet) -> None:
    """Replace the stem by a 3x3 convolution of stride 1 and take the max-pool out (He et al. 2016, section 4.2)."""
    width = cast(nn.BatchNorm2d, model.bn1).num_features
    model.add_module("conv1", _convolution(nn.Conv2d(3, width, 3, stride=1, padding=1, bias=False)))
    model.add_module("maxpool", nn.Identity())


def _create_pretrained(description: BackboneDescription) -> ResNet:
    if description.name in (*_OURS, CONV_BLOCKS):
        raise SparsightError(
            f"{description.name} is our own network: there are no ImageNet weights for it.",
            hint="Take a timm ResNet such as resnet18, or pre-train with train_moco.",
        )
    if description.small_image_stem:
        raise SparsightError(
            f"ImageNet weights of {description.name} belong to its ordinary stem, not to the one for small images.",
            hint="Turn the small-image stem off, and use images of 64 pixels or more.",
        )
    try:
        return _create(description.name, pretrained=True)
    except Exception as error:  # the hub's client raises its HTTP library's own kinds
        raise SparsightError(
            f"The ImageNet weights of {description.name} can't be had: {str(error).strip().splitlines()[0]}",
            hint="They come from the Hugging Face hub on first use; connect once, or set HF_HOME to a filled cache.",
        ) from error


def network_digest(network: nn.Module) -> str:
    """Hash a network's weights: SHA-256, hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
