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


class SummedPair(nn.Module):
    """Two 3x3 convolutions, one after the other, and the sum of what both give."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.first, self.second = conv3x3(before, channels), conv3x3(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Go through: float N x `before` x h x w to N x `channels` x h x w."""
        first: Tensor = self.first(features).relu()
        second: Tensor = self.second(first).relu()
        return first + second


def reference_encoder(cell: int) -> nn.Sequential:
    """Convolutions 32, 64 with stride 2, 128, 128, their sum, 64; a further stride of 2 for each doubling of a cell."""
    strides = [conv3x3(64 if number else 32, 64, stride=2) for number in range(cell.bit_length() - 1)]
    halving = [layer for stride in strides for layer in (stride, nn.ReLU())]
    return nn.Sequential(conv3x3(3, 32), nn.ReLU(), *halving, SummedPair(64, 128), conv3x3(128, 64), nn.ReLU())


def reference_decoder(cell: int, channels: int) -> nn.Sequential:
    """The encoder's mirror; its skip goes round the second wide layer, for one round the code would be part of it."""
    last = cell.bit_length() - 2
    strides = [nn.ConvTranspose2d(64, 64 if number < last else 32, 4, 2, padding=1) for number in range(last + 1)]
    doubling = [layer for stride in strides for layer in (stride, nn.ReLU())]
    narrow = (conv3x3(channels, 3), nn.ReLU(), conv3x3(3, 64), nn.ReLU())
    return nn.Sequential(*narrow, SummedPair(64, 128), conv3x3(128, 64), nn.ReLU(), *doubling, conv3x3(32, 3))


def conv3x3(before: int, channels: int, *, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, or divides it by its stride."""
    return nn.Conv2d(before, channels, 3, stride, padding=1)
