"""Convolution blocks: the backbone's fields, and an autoencoder's encoder that becomes one."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.models.autoencoder import Autoencoder, AutoencoderDescription
from sparsight.models.autoencoder_folder import AutoencoderModel, write_autoencoder
from sparsight.models.backbones import create_backbone, describe_backbone
from sparsight.models.conv_blocks import GRID, ConvBlocks
from sparsight.training.base_model import open_base_model


def store(folder: Path, network: Autoencoder) -> Path:
    model = AutoencoderModel(autoencoder=network.description, image_size=28, resize="fit")
    with new_artefact(folder, "model", {}) as draft:
        write_autoencoder(draft.folder, model, network, None)
    return folder


def describe(design: str, cell: int) -> AutoencoderDescription:
    return AutoencoderDescription(design=design, binary=False, channels=8, cell=cell, code_bits=16)


@pytest.mark.parametrize("size", [(4, 4), (12, 20), (28, 28), (100, 60)])
def test_an_embedding_is_what_torchs_pooling_gives(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    backbone = ConvBlocks().eval()
    with torch.no_grad():
        images = torch.rand(2, 3, *size)
        features = backbone.encoder(images)
        expected = nn.AdaptiveMaxPool2d(GRID)(features).flatten(1)
        assert torch.equal(backbone(images), expected)
    assert features.shape == (2, 256, size[0] // 4, size[1] // 4)
    assert expected.shape == (2, backbone.num_features)


def test_blocks_are_two_convolutions_with_batch_norm_and_the_first_two_end_with_a_max_pool() -> None:
    kinds = [type(layer) for layer in ConvBlocks().encoder]
    assert kinds == [nn.Sequential, nn.MaxPool2d, nn.Sequential, nn.MaxPool2d, nn.Sequential, nn.Sequential]
    layers = [type(layer) for layer in ConvBlocks().encoder[0]]
    assert layers == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    widths = [layer.out_channels for layer in ConvBlocks().encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [32, 32, 64, 64, 128, 128, 256, 256]


def test_it_is_a_backbone_by_name_without_another_stem() -> None:
    assert isinstance(create_backbone(describe_backbone("conv_blocks", "auto", 28)), ConvBlocks)
    with pytest.raises(SparsightError, match="is for small images as it is"):
        describe_backbone("conv_blocks", "on", 28)
    base = open_base_model("none", None, backbone="conv_blocks", image_size=28)
    assert (base.mean, base.std) == ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    with pytest.raises(SparsightError, match="no ImageNet weights"):
        open_base_model("imagenet", None, backbone="conv_blocks", image_size=28)


def test_an_autoencoders_encoder_is_a_base_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Autoencoder(describe("conv_blocks", 4))
    network(torch.rand(8, 3, 28, 28))  # batch norm now has statistics of its own
    base = open_base_model("none", store(tmp_path / "model", network), backbone="resnet18", image_size=28)
    assert (base.description.name, base.image_size) == ("conv_blocks", 28)
    images = torch.rand(2, 3, 28, 28)
    normalised = (images - torch.tensor(base.mean).view(3, 1, 1)) / torch.tensor(base.std).view(3, 1, 1)
    with torch.no_grad():
        _, features = network.eval().encode(images)
        assert torch.equal(base.backbone(normalised), nn.AdaptiveMaxPool2d(GRID)(features).flatten(1))


def test_encoders_of_other_designs_are_refused(tmp_path: Path) -> None:
    folder = store(tmp_path / "model", Autoencoder(describe("reference", 2)))
    with pytest.raises(SparsightError, match="of the design reference, whose encoder is no backbone") as caught:
        open_base_model("none", folder, backbone="resnet18", image_size=28)
    assert "design=conv_blocks" in caught.value.hint
