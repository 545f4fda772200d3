"""Multi-crop: two large crops of an image and several small ones (Caron et al. 2020, arXiv 2006.09882, section 3.3)."""

import dataclasses
from dataclasses import dataclass

from sparsight.data.augment import Augmentation, AugmentationOptions
from sparsight.errors import SparsightError

LEAST_SIZE = 8
"""Pixels of a crop; a blur takes more than one, and a network makes nothing of so few."""


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """Sizes in pixels, and scales as parts of an image's area, of an image's crops."""

    large_crop_size: int = 0
    """0 takes the image's."""
    small_crops: int = 6
    small_crop_size: int = 0
    """0 takes 3/7 of the large ones', as the paper's 96 pixels are of its 224."""
    small_crop_scale: tuple[float, float] = (0.05, 0.14)


def multi_crop(large: AugmentationOptions, options: CropOptions, image_size: int) -> list[Augmentation]:
    """The augmentations that make an image's crops: two large ones first, then the small ones.

    Args:
        large: what large crops go through; small ones differ from them by size and scale.
        options: of the crops.
        image_size: the shorter edge of the images, in pixels.

    Raises:
        SparsightError: a size or number out of its range.
    """
    size = options.large_crop_size or image_size
    small_size = options.small_crop_size or round(size * 3 / 7)
    if options.small_crops < 0:
        raise SparsightError(f"small_crops is {options.small_crops}; expected 0 or more.")
    for name, pixels in (("large_crop_size", size), ("small_crop_size", small_size)):
        if not LEAST_SIZE <= pixels <= image_size:
            raise SparsightError(
                f"{name} comes to {pixels} pixels; expected {LEAST_SIZE} to {image_size}, the size of the images.",
                hint=f"Set {name}, or prepare images of another image_size.",
            )
    small = dataclasses.replace(large, size=small_size, crop_scale=options.small_crop_scale)
    return [Augmentation(dataclasses.replace(large, size=size))] * 2 + [Augmentation(small)] * options.small_crops
