"""Convolution blocks: an encoder that shrinks images by 4, its mirror, and the encoder as a backbone."""

import torch
from torch import Tensor, nn

CONV_BLOCKS = "conv_blocks"
"""The name of the design, and of the backbone."""
SHRINKS = 4
"""Pixels a side that a position of the last feature map stands for."""
FEATURES = 256
"""Channels of that map."""
GRID = 2
"""Positions a side that an embedding tells apart."""
CENTRE, SPREAD = (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)
"""What is taken off pixels of 0 to 1, by channel, and what that is divided by."""
SMALL = 28
"""Pixels a side of the images that it was made for."""


class ConvBlocks(nn.Module):
    """The encoder as a backbone: it keeps where in the image a feature is, roughly.

    A dense layer on the last feature map would fit images of one size only, and be very wide for large ones. So of each
    of 2 x 2 fields of the map, whatever its size, the maximum is taken.
    """

    num_features = FEATURES * GRID**2

    def __init__(self) -> None:
        super().__init__()
        self.encoder = blocks_encoder()

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float, N x 3 x H x W to N x 1024."""
        features: Tensor = self.encoder(images)
        rows = torch.stack([features[:, :, part].amax(2) for part in _fields(features.shape[2])], 2)
        return torch.stack([rows[..., part].amax(3) for part in _fields(rows.shape[3])], 3).flatten(1)


def _fields(size: int) -> list[slice]:
    """Cut a side into as many parts as the grid has, which overlap where they can't be equal.

    As torch's own adaptive pooling does, whose gradient isn't the same on a GPU each time, and which ONNX hasn't.
    """
    return [slice(size * place // GRID, -(-size * (place + 1) // GRID)) for place in range(GRID)]


def blocks_encoder() -> nn.Sequential:
    """Blocks of 32, 64, 128 and 256 channels, with a max-pool after each of the first two."""
    return nn.Sequential(
        _block(3, 32), nn.MaxPool2d(2), _block(32, 64), nn.MaxPool2d(2), _block(64, 128), _block(128, FEATURES)
    )


def blocks_decoder() -> nn.Sequential:
    """The encoder's mirror; pixels are repeated where it takes their maximum."""
    return nn.Sequential(
        _block(FEATURES, 128), _block(128, 64), _doubled(), _block(64, 32), _doubled(), nn.Conv2d(32, 3, 3, padding=1)
    )


def _block(before: int, channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    return nn.Sequential(*_convolution(before, channels), *_convolution(channels, channels))


def _convolution(before: int, channels: int) -> tuple[nn.Module, ...]:
    layer = nn.Conv2d(before, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm2d(channels), nn.ReLU()


def _doubled() -> nn.Upsample:
    return nn.Upsample(scale_factor=2)
