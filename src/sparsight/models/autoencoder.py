"""Autoencoders with a grid of code cells between encoder and decoder, floats or bits, and one code of a whole image."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sparsight.errors import SparsightError
from sparsight.models.autoencoder_layers import (
    BLOCK,
    Analysis,
    Mixing,
    Synthesis,
    conv,
    reference_decoder,
    reference_encoder,
)
from sparsight.models.binary import Rounding
from sparsight.models.conv_blocks import CENTRE, CONV_BLOCKS, FEATURES, SHRINKS, blocks_decoder, blocks_encoder
from sparsight.models.folder import Description
from sparsight.models.hashing import STAGE_BITS, CellCodes, StagedSigns, principal_components

REACH = 10
"""Cells of a description's `reach`, at least."""
CELLS = (2, 4, 8)
"""Pixels a side that a cell of a code may stand for."""
_LATENTS = 96
_GREY = CENTRE[0]


class AutoencoderDescription(Description):
    """Which autoencoder: what is needed to build its network."""

    design: Literal["reference", "residual", "conv_blocks"]
    binary: bool = Field(description="whether cells hold signs, or floats")
    channels: int = Field(ge=1, le=1024, description="signs or floats in a cell")
    cell: int = Field(description="pixels a side that a cell stands for; 8 in the residual design, 4 in conv_blocks")
    code_bits: int = Field(ge=8, le=1024, description="bits of the code of a whole image")
    layers: int = Field(default=2, ge=2, le=8, description="wide layers of the reference design, which are summed")
    filter_size: int = Field(default=3, ge=3, le=7, description="edge of its filters, odd")
    filters: int = Field(
        default=32, ge=1, le=256, description="filters of its first layer; others have 2 or 4 times it"
    )

    @property
    def step(self) -> int:
        """So many channels of a code, or a multiple, can be kept and the rest dropped."""
        return STAGE_BITS if self.design == "residual" and self.binary else self.channels

    @property
    def reach(self) -> int:
        """Cells: nothing farther away has a part in a cell of the code, nor in its pixels when they are decoded."""
        return max(REACH, (self.layers + 4) * (self.filter_size // 2) + 1)

    @property
    def bits_per_pixel(self) -> float:
        """What all channels take before they are packed; a float counts as 16 bits."""
        return self.channels * (1 if self.binary else 16) / self.cell**2


class Autoencoder(nn.Module):
    """A convolutional autoencoder for images of any size that is a multiple of a cell's.

    An encoder's features go through a hashing layer, which makes the code: a grid of cells. A decoder makes an image of
    it. Nothing else passes between them. Beside, a head turns the features, pooled over the image, into one code.

    Args:
        description: tells the design.

    Raises:
        SparsightError: a number that the design can't have.
    """

    def __init__(self, description: AutoencoderDescription) -> None:
        super().__init__()
        _check(description)
        self.description = description
        channels, features = description.channels, _LATENTS
        self.hashing: CellCodes | StagedSigns
        if description.design == "reference":
            size, features = description.filter_size, 2 * description.filters
            shape = {"layers": description.layers, "size": size, "filters": description.filters}
            self.encoder = reference_encoder(description.cell, **shape)
            narrow = nn.Sequential(conv(features, 3, size), nn.ReLU(), conv(3, channels, size))
            self.hashing = CellCodes(narrow, nn.Identity(), binary=description.binary)
            self.decoder = reference_decoder(description.cell, channels, **shape)
        elif description.design == CONV_BLOCKS:
            features = FEATURES
            self.encoder = blocks_encoder()
            inward, outward = nn.Conv2d(features, channels, 1), nn.Conv2d(channels, features, 1)
            self.hashing = CellCodes(inward, outward, binary=description.binary)
            self.decoder = blocks_decoder()
        else:
            self.encoder = nn.Sequential(Analysis(features), *(Mixing(features) for _ in range(3)))
            inward, outward = nn.Conv2d(features, channels, 1), nn.Conv2d(channels, features, 1)
            floats = CellCodes(inward, outward, binary=False)
            self.hashing = StagedSigns(features, channels) if description.binary else floats
            self.decoder = nn.Sequential(*(Mixing(features) for _ in range(4)), Synthesis(features))
        self.code_head = nn.Sequential(nn.Linear(2 * features, 128), nn.ReLU(), nn.Linear(128, description.code_bits))

    def encode(self, images: Tensor, rounding: Rounding = "deterministic") -> tuple[Tensor, Tensor]:
        """Encode images, float N x 3 x H x W of 0 to 1.

        Returns:
            The code, float N x `channels` x H / `cell` x W / `cell`, of -1 and 1 where it is binary; and the features
            that it was made of, N x F x the same.
        """
        features = self.encoder(images - _GREY)
        return self.hashing.encode(features, rounding), features

    def decode(self, code: Tensor, kept: Tensor | None = None) -> Tensor:
        """Make images, float N x 3 x H x W, about 0 to 1, of codes.

        Args:
            code: as `encode` gives it.
            kept: int64, N: how many of the channels to look at, a multiple of the description's `step`; by default all.
        """
        decoded: Tensor = self.decoder(self.hashing.decode(code, kept))
        return decoded + _GREY

    def forward(
        self, images: Tensor, kept: Tensor | None = None, rounding: Rounding = "deterministic"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode and decode: the reconstructions, the codes, and the features."""
        code, features = self.encode(images, rounding)
        return self.decode(code, kept), code, features

    def whole_code(self, features: Tensor) -> Tensor:
        """Turn features into one code an image: float N x `code_bits`, whose signs are its bits.

        It learns from the features and leaves them as they are, so that it costs no quality of images.
        """
        features = features.detach()
        pooled = torch.cat([features.mean(dim=(2, 3)), features.std(dim=(2, 3), correction=0)], dim=1)
        values: Tensor = self.code_head(pooled)
        return values

    @torch.no_grad()
    def begin_with(self, images: Tensor) -> None:
        """Set first weights by images to train on, float N x 3 x H x W of 0 to 1, where the design does so.

        The residual design begins with the principal components of blocks of pixels, and with their signs: training
        has something to improve on from the first step.
        """
        if self.description.design != "residual":
            return
        blocks = F.pixel_unshuffle(images - _GREY, BLOCK).permute(0, 2, 3, 1).flatten(0, 2)
        mean, (deviations, basis) = blocks.mean(dim=0), principal_components(blocks, _LATENTS)
        for layer in (self.encoder[0], self.decoder[-1]):
            assert isinstance(layer, Analysis | Synthesis)  # noqa: S101 -- for the type checker
            layer.begin_with(basis, mean)
        if isinstance(self.hashing, StagedSigns):
            self.hashing.begin_with(deviations)


def _check(description: AutoencoderDescription) -> None:
    if description.cell not in CELLS:
        raise SparsightError(f"cell is {description.cell}; expected {', '.join(map(str, CELLS))}.")
    if description.filter_size % 2 == 0:
        raise SparsightError(f"filter_size is {description.filter_size}; expected an odd number.")
    _check_shape(description)
    cell = {"residual": BLOCK, CONV_BLOCKS: SHRINKS}.get(description.design, description.cell)
    if description.cell != cell:
        raise SparsightError(
            f"cell is {description.cell}; the design {description.design} has cells of {cell} pixels a side."
        )
    if description.design == "residual" and description.binary and description.channels % STAGE_BITS:
        raise SparsightError(
            f"channels is {description.channels}; the residual design takes multiples of {STAGE_BITS}, "
            f"each of which is {STAGE_BITS / BLOCK**2} bits a pixel."
        )


def _check_shape(description: AutoencoderDescription) -> None:
    """Refuse numbers of layers and filters for a design whose shape they don't decide."""
    for name in ("layers", "filter_size", "filters"):
        usual, given = AutoencoderDescription.model_fields[name].default, getattr(description, name)
        if description.design != "reference" and given != usual:
            raise SparsightError(
                f"{name} is {given}; only the reference design can have another one than {usual}.",
                hint="Set design=reference, or leave layers, filter_size and filters out.",
            )
