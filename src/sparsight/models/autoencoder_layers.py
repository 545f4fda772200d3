"""What autoencoders are made of: the reference's encoder and decoder, and the layers of the residual design."""

from torch import Tensor, nn

BLOCK = 8
"""Pixels a side of a cell of the residual design."""
_MIDDLE = slice(BLOCK // 2, BLOCK // 2 + BLOCK)


class Analysis(nn.Conv2d):
    """Overlapping blocks of 16 x 16 pixels to `latents` numbers for every 8 x 8."""

    def __init__(self, latents: int) -> None:
        super().__init__(3, latents, 2 * BLOCK, stride=BLOCK, padding=BLOCK // 2)

    def begin_with(self, basis: Tensor, mean: Tensor) -> None:
        """Begin as a transform of 8 x 8 blocks: `basis`, float L x 192, of what differs from `mean`, float 192."""
        assert self.bias is not None  # noqa: S101 -- for the type checker
        self.weight.zero_()
        self.weight[:, :, _MIDDLE, _MIDDLE] = basis.view(-1, 3, BLOCK, BLOCK)
        self.bias.copy_(-(basis @ mean))


class Synthesis(nn.ConvTranspose2d):
    """The way back: `latents` numbers to overlapping blocks of 16 x 16 pixels."""

    def __init__(self, latents: int) -> None:
        super().__init__(latents, 3, 2 * BLOCK, stride=BLOCK, padding=BLOCK // 2)

    def begin_with(self, basis: Tensor, mean: Tensor) -> None:
        """Begin as the inverse of a transform, as `Analysis` has it."""
        assert self.bias is not None  # noqa: S101 -- for the type checker
        self.weight.zero_()
        self.weight[:, :, _MIDDLE, _MIDDLE] = basis.view(-1, 3, BLOCK, BLOCK)
        self.bias.copy_(mean.view(3, -1).mean(dim=1))


class Mixing(nn.Module):
    """Adds to each position what it and its neighbours say; begins by adding nothing.

    A depthwise 5x5 convolution, then two layers for each position (Liu et al. 2022, arXiv 2201.03545).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.widen, self.narrow = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, channels, 1)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, latents: Tensor) -> Tensor:
        """Go through: float N x C x h x w."""
        added: Tensor = self.narrow(self.widen(self.spatial(latents)).relu())
        return latents + added


class SummedLayers(nn.Module):
    """Convolutions, one after the other, and the sum of what all of them give."""

    def __init__(self, before: int, channels: int, *, size: int, layers: int) -> None:
        super().__init__()
        self.first, self.second = conv(before, channels, size), conv(channels, channels, size)
        self.further = nn.ModuleList(conv(channels, channels, size) for _ in range(layers - 2))

    def forward(self, features: Tensor) -> Tensor:
        """Go through: float N x `before` x h x w to N x `channels` x h x w."""
        given: Tensor = self.first(features).relu()
        total = given
        for layer in (self.second, *self.further):
            given = layer(given).relu()
            total = total + given
        return total


def reference_encoder(cell: int, *, layers: int, size: int, filters: int) -> nn.Sequential:
    """Convolutions, by default 32, 64 with stride 2, 128, 128, their sum, 64; further strides of 2 for larger cells.

    Args:
        cell: pixels a side, a power of 2.
        layers: wide ones, which are summed.
        size: of a filter, odd.
        filters: of the first layer; the others have 2 or 4 times as many.
    """
    double = 2 * filters
    strides = [conv(double if number else filters, double, size, stride=2) for number in range(cell.bit_length() - 1)]
    halving = [layer for stride in strides for layer in (stride, nn.ReLU())]
    wide = SummedLayers(double, 2 * double, size=size, layers=layers)
    return nn.Sequential(conv(3, filters, size), nn.ReLU(), *halving, wide, conv(2 * double, double, size), nn.ReLU())


def reference_decoder(cell: int, channels: int, *, layers: int, size: int, filters: int) -> nn.Sequential:
    """The encoder's mirror; its skip goes round the further wide layers, for one round the code would be part of it."""
    last, double = cell.bit_length() - 2, 2 * filters
    strides = [
        nn.ConvTranspose2d(double, double if number < last else filters, 4, 2, padding=1) for number in range(last + 1)
    ]
    doubling = [layer for stride in strides for layer in (stride, nn.ReLU())]
    narrow = (conv(channels, 3, size), nn.ReLU(), conv(3, double, size), nn.ReLU())
    wide = SummedLayers(double, 2 * double, size=size, layers=layers)
    return nn.Sequential(*narrow, wide, conv(2 * double, double, size), nn.ReLU(), *doubling, conv(filters, 3, size))


def conv(before: int, channels: int, size: int, *, stride: int = 1) -> nn.Conv2d:
    """A convolution of odd size that keeps the image's, or divides it by its stride."""
    return nn.Conv2d(before, channels, size, stride, padding=size // 2)
