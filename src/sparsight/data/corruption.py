"""What an autoencoder gets to see while it trains: images resized by area, crops of them, salt and pepper, blur."""

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Generator, Tensor

from sparsight.data.augment import gaussian_blur
from sparsight.errors import SparsightError

_LARGEST_BLUR = 2.0


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """How images are spoilt before they are encoded; what shall come out are the clean ones.

    Attributes:
        salt_and_pepper: part of the pixels that turn black or white, each with the same chance.
        blur: probability that an image is blurred, by a Gaussian with a standard deviation of 0.1 to 2 pixels.

    Raises:
        SparsightError: one of them isn't 0 to 1.
    """

    salt_and_pepper: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise SparsightError(f"{name} is {value}; expected 0 to 1.")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Spoil images, float N x 3 x H x W of 0 to 1, by random numbers drawn on the CPU."""
        if self.blur:
            blurred = (torch.rand(len(images), generator=generator) < self.blur).to(images.device)
            sigma = (0.1 + (_LARGEST_BLUR - 0.1) * torch.rand(len(images), generator=generator)).to(images.device)
            images = torch.where(blurred[:, None, None, None], gaussian_blur(images, sigma, _LARGEST_BLUR), images)
        if self.salt_and_pepper:
            drawn = torch.rand(len(images), 1, *images.shape[2:], generator=generator).to(images.device)
            images = torch.where(drawn < self.salt_and_pepper, (drawn < self.salt_and_pepper / 2).float(), images)
        return images


def resize_by_area(images: Tensor, size: int) -> Tensor:
    """Scale images, float N x 3 x H x W, to squares in which each pixel is the mean of what it covers."""
    return images if images.shape[2:] == (size, size) else functional.interpolate(images, (size, size), mode="area")


def random_crops(images: Tensor, size: int, generator: Generator) -> Tensor:
    """Cut a square at a random place out of each image, N x 3 x H x W."""
    height, width = images.shape[2:]
    if (height, width) == (size, size):
        return images
    rows = torch.randint(0, height - size + 1, (len(images),), generator=generator).tolist()
    columns = torch.randint(0, width - size + 1, (len(images),), generator=generator).tolist()
    places = zip(images, rows, columns, strict=True)
    return torch.stack([image[:, row : row + size, column : column + size] for image, row, column in places])
