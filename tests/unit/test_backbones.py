"""Backbones by name: shapes, stems, and what is said of names that don't exist."""

import pytest
import torch
from torch import nn

from sparsight.errors import SparsightError
from sparsight.models.backbones import (
    backbone_names,
    backbone_preprocessing,
    create_backbone,
    describe_backbone,
)
from sparsight.models.folder import BackboneDescription


def build(name, *, small=False, pretrained=False):
    return create_backbone(BackboneDescription(name=name, small_image_stem=small), pretrained=pretrained)


@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet10_narrow", 256), ("resnet18_narrow", 256), ("resnet18", 512), ("resnet50", 2048), ("resnet26t", 2048)],
)
@pytest.mark.parametrize("small", [False, True])
def test_embeds_images_into_its_number_of_features(name, features, small):
    backbone = build(name, small=small).eval()
    with torch.inference_mode():
        embedding = backbone(torch.rand(2, 3, 32, 32))
    assert embedding.shape == (2, features)
    assert backbone.num_features == features


def test_small_image_stem_keeps_the_resolution():
    backbone = build("resnet18", small=True).eval()
    convolution = backbone.conv1
    assert isinstance(convolution, nn.Conv2d)
    assert (convolution.kernel_size, convolution.stride) == ((3, 3), (1, 1))
    with torch.inference_mode():
        assert backbone.forward_features(torch.rand(1, 3, 32, 32)).shape == (1, 512, 4, 4)
        assert build("resnet18").eval().forward_features(torch.rand(1, 3, 32, 32)).shape == (1, 512, 1, 1)


def test_narrow_backbones_are_narrow_from_the_first_layer_on():
    backbone = build("resnet10_narrow")
    assert backbone.conv1.out_channels == 32
    assert backbone.layer1[0].downsample is None
    assert backbone.eval().forward_features(torch.rand(1, 3, 64, 64)).shape == (1, 256, 4, 4)
    assert sum(parameter.numel() for parameter in backbone.parameters()) < 1.3e6


@pytest.mark.parametrize(
    ("choice", "image_size", "small"),
    [("auto", 63, True), ("auto", 64, False), ("on", 224, True), ("off", 28, False)],
)
def test_small_image_stem_is_for_images_under_64_pixels_unless_told_otherwise(choice, image_size, small):
    expected = BackboneDescription(name="resnet18", small_image_stem=small)
    assert describe_backbone("resnet18", choice, image_size) == expected


def test_another_word_for_the_stem_is_refused():
    with pytest.raises(SparsightError, match="expected auto, on or off"):
        describe_backbone("resnet18", "maybe", 32)


def test_preprocessing_comes_from_timm():
    mean, std, size = backbone_preprocessing("resnet18")
    assert mean == (0.485, 0.456, 0.406)
    assert std == (0.229, 0.224, 0.225)
    assert size == 224
    assert backbone_preprocessing("resnet10_narrow")[2] == 64


@pytest.mark.parametrize("call", [build, backbone_preprocessing])
def test_unknown_name_is_refused_with_the_nearest_ones(call):
    with pytest.raises(SparsightError, match=r"no backbone 'resnet81'.*\n.*resnet18"):
        call("resnet81")


def test_networks_that_are_no_resnets_are_not_offered():
    assert "vit_base_patch16_224" not in backbone_names()
    with pytest.raises(SparsightError, match="no backbone"):
        build("efficientnet_b0")


def test_there_are_no_pretrained_weights_for_our_own_networks():
    with pytest.raises(SparsightError, match="our own network"):
        build("resnet10_narrow", pretrained=True)


def test_pretrained_weights_do_not_fit_the_small_image_stem():
    with pytest.raises(SparsightError, match="ordinary stem"):
        build("resnet18", small=True, pretrained=True)


def test_weights_that_cannot_be_had_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SparsightError, match="ImageNet weights of resnet18 can't be had"):
        build("resnet18", pretrained=True)
