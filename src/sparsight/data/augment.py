"""Augmentation of whole batches on the device: uint8 images in, normalised float batches out."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Generator, Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LUMA = (0.2989, 0.587, 0.114)
_CROP_TRIES = 10
_CACHED = 2**16
"""Pixels that a CPU works on at once, so that all steps find them in its cache."""


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """What is done to an image, each with parameters of its own. The defaults are MoCo v2's (arXiv 2003.04297)."""

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Area of the random crop as a part of the image's; (1, 1) with `crop_ratio` (1, 1) turns cropping off."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the random crop."""
    horizontal_flip: float = 0.5
    """Probability."""
    vertical_flip: float = 0.0
    """Probability."""
    rotation_degrees: float = 0.0
    """Rotation by an angle drawn evenly from plus or minus this many degrees."""
    shear: float = 0.0
    """Largest tangent of the angle by which upright lines are tilted, either way."""
    quarter_turns: bool = False
    """Rotation by 0, 90, 180 or 270 degrees, each as likely."""
    jitter: float = 0.8
    """Probability of colour jitter."""
    brightness: float = 0.4
    """Brightness is multiplied by a factor from 1 - this to 1 + this; so are contrast and saturation by theirs."""
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    """Hue is shifted by at most this part of the colour circle, 0 to 0.5."""
    greyscale: float = 0.2
    """Probability."""
    blur: float = 0.5
    """Probability of Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Its standard deviation, in pixels."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Taken off at the end, by channel, of pixels scaled to 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    size: int | None = None
    """Height and width of what comes out, in pixels; by default those of what goes in."""


def normalise(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """The plain transform of evaluation: uint8 images to a normalised float batch, channels last in memory.

    Args:
        images: uint8, N x H x W x 3.
        mean: by channel, of pixels scaled to 0..1.
        std: by channel, of pixels scaled to 0..1.

    Returns:
        float32, N x 3 x H x W.
    """
    scale, shift = _scale_and_shift(mean, std, images.device)
    return (images.float() * (scale / 255) + shift).permute(0, 3, 1, 2)


class Augmentation:
    """Augments a batch, every image with random parameters of its own.

    Crop, flips, shear and rotation are one affine map, sampled once, bilinearly: what comes out has the size of what
    goes in, so a crop is enlarged and nothing aliases; or it has another `size`, for crops of about as many. Past
    the image's edge its mirror image is seen. Colour jitter is torchvision's, in an order drawn anew for each batch
    instead of for each image.

    Every random number comes from the generator given, on the CPU: the same generator state gives the same
    parameters on any device.

    Example:
        >>> augment = Augmentation(AugmentationOptions(vertical_flip=0.5))
        >>> views = augment(images, torch.Generator().manual_seed(0))
    """

    def __init__(self, options: AugmentationOptions) -> None:
        self.options = options

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment images.

        Args:
            images: uint8, N x H x W x 3, on any device.
            generator: a CPU generator; it moves on.

        Returns:
            float32, N x 3 x H x W (or `size` x `size`), channels last in memory, normalised.
        """
        count, height, width = images.shape[:3]
        return self.apply(images, self.draw(count, height, width, generator))

    def draw(self, count: int, height: int, width: int, generator: Generator) -> "Drawn":
        """Draw what happens to each of some images; the generator moves on."""
        options = self.options
        maps = affine_maps(options, count, height, width, generator)
        order, jitter = _draw_jitter(options, count, generator)
        sigma = _uniform((count,), *options.blur_sigma, generator)
        grey, blurred = _chosen(count, options.greyscale, generator), _chosen(count, options.blur, generator)
        return Drawn(maps=maps, order=order, jitter=jitter, grey=grey, blurred=blurred, sigma=sigma)

    def apply(self, images: Tensor, drawn: "Drawn") -> Tensor:
        """Augment images with what was drawn for them. An image comes out the same whatever others are with it."""
        count, height, width = images.shape[:3]
        at_once = max(1, _CACHED // (height * width)) if images.device.type == "cpu" else count
        shape = (count, 3, self.options.size or height, self.options.size or width)
        views = torch.empty(shape, device=images.device, memory_format=torch.channels_last)
        for start in range(0, count, at_once):
            part = slice(start, start + at_once)
            views[part] = self._augment(images[part], drawn.at(part))
        return views

    def _augment(self, images: Tensor, drawn: "Drawn") -> Tensor:
        device, grey, blurred = images.device, drawn.grey.nonzero().squeeze(1), drawn.blurred.nonzero().squeeze(1)
        batch = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        batch = warp(batch, drawn.maps.to(device), self.options.size)
        batch.mul_(1 / 255)
        jitter = drawn.jitter.to(device)
        for number in drawn.order:
            _JITTERS[number](batch, jitter[:, number].view(-1, 1, 1, 1))
        if len(grey):
            places = grey.to(device)
            batch[places] = _grey(batch[places]).expand(-1, 3, -1, -1)
        if len(blurred):
            places, largest = blurred.to(device), self.options.blur_sigma[1]
            batch[places] = gaussian_blur(batch[places], drawn.sigma[blurred].to(device), largest)
        scale, shift = _scale_and_shift(self.options.mean, self.options.std, device)
        return batch.mul_(scale.view(3, 1, 1)).add_(shift.view(3, 1, 1))


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The random parameters of N images, on the CPU."""

    maps: Tensor
    """N x 2 x 3."""
    order: list[int]
    """Places in `_JITTERS` of the operations to do, the same for all."""
    jitter: Tensor
    """N x 4: their strengths, neutral for images left alone."""
    grey: Tensor
    """bool, N: which images to turn grey."""
    blurred: Tensor
    """bool, N: which images to blur."""
    sigma: Tensor
    """N: standard deviations of the blur, in pixels."""

    def at(self, places: slice | Tensor) -> "Drawn":
        """The parameters of some of the images, in the order asked for."""
        return Drawn(
            maps=self.maps[places],
            order=self.order,
            jitter=self.jitter[places],
            grey=self.grey[places],
            blurred=self.blurred[places],
            sigma=self.sigma[places],
        )


def affine_maps(options: AugmentationOptions, count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw crop, flips, shear and rotation of some images as one affine map each.

    Returns:
        float32, `count` x 2 x 3: from output to input coordinates, both -1..1, as `affine_grid` takes them.
    """
    crop_width, crop_height = _crop_sizes(options, count, height, width, generator)
    centre_x = (1 - crop_width) * (2 * torch.rand(count, generator=generator) - 1)
    centre_y = (1 - crop_height) * (2 * torch.rand(count, generator=generator) - 1)
    crop_width = crop_width * _signs(count, options.horizontal_flip, generator)
    crop_height = crop_height * _signs(count, options.vertical_flip, generator)
    angle, shear = _angles(options, count, generator), _uniform((count,), -options.shear, options.shear, generator)
    cosine, sine, ratio = angle.cos(), angle.sin(), width / height
    rows = [cosine * crop_width, (shear * cosine - sine) * crop_height / ratio, centre_x]
    rows += [sine * crop_width * ratio, (shear * sine + cosine) * crop_height, centre_y]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def warp(batch: Tensor, maps: Tensor, size: int | None = None) -> Tensor:
    """Sample float images, N x C x H x W, through affine maps, N x 2 x 3, bilinearly, mirrored at the edges.

    What comes out has the size of what goes in, unless `size`, in pixels, is given.
    """
    height, width = (size, size) if size else batch.shape[2:]
    grid = functional.affine_grid(maps, [*batch.shape[:2], height, width], align_corners=False)
    return functional.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _crop_sizes(
    options: AugmentationOptions, count: int, height: int, width: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Draw widths and heights of crops as parts of the image's, as torchvision's RandomResizedCrop does.

    The first of ten drawn sizes that fits is taken; where none does, the first one shrunk to fit.
    """
    area = _uniform((count, _CROP_TRIES), *options.crop_scale, generator)
    low, high = math.log(options.crop_ratio[0]), math.log(options.crop_ratio[1])
    ratio = _uniform((count, _CROP_TRIES), low, high, generator).exp() * (height / width)
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    first = fits.float().argmax(dim=1, keepdim=True)
    crop_width, crop_height = widths.gather(1, first).squeeze(1), heights.gather(1, first).squeeze(1)
    too_large = torch.maximum(crop_width, crop_height).clamp(min=1)
    return crop_width / too_large, crop_height / too_large


def _angles(options: AugmentationOptions, count: int, generator: Generator) -> Tensor:
    limit = math.radians(options.rotation_degrees)
    angle = _uniform((count,), -limit, limit, generator)
    quarters = torch.randint(0, 4, (count,), generator=generator)
    return angle + quarters * (math.pi / 2) if options.quarter_turns else angle


def _draw_jitter(options: AugmentationOptions, count: int, generator: Generator) -> tuple[list[int], Tensor]:
    strengths = (options.brightness, options.contrast, options.saturation, options.hue)
    columns = [_uniform((count,), max(0.0, 1 - strength), 1 + strength, generator) for strength in strengths[:3]]
    columns.append(_uniform((count,), -options.hue, options.hue, generator))
    chosen = torch.rand(count, 1, generator=generator) < options.jitter
    values = torch.where(chosen, torch.stack(columns, dim=1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    order = torch.randperm(4, generator=generator).tolist()
    return [number for number in order if strengths[number] > 0 and options.jitter > 0], values


def adjust_brightness(batch: Tensor, factor: Tensor) -> None:
    """Multiply images (in place, float 0..1, N x 3 x H x W) by a factor each (N x 1 x 1 x 1)."""
    batch.mul_(factor).clamp_(0, 1)


def adjust_contrast(batch: Tensor, factor: Tensor) -> None:
    """Move images (in place) away from their mean grey by a factor each."""
    mean = _grey(batch).mean(dim=(2, 3), keepdim=True)
    batch.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def adjust_saturation(batch: Tensor, factor: Tensor) -> None:
    """Move images (in place) away from their grey selves by a factor each; 0 gives grey."""
    grey = _grey(batch).mul_(1 - factor)
    batch.mul_(factor).add_(grey).clamp_(0, 1)


def adjust_hue(batch: Tensor, shift: Tensor) -> None:
    """Turn the colours of images (in place) by a part of the colour circle each.

    Largest and smallest channel stay as they are, so each channel follows from the new hue alone (as in HSV to RGB).
    """
    red, green, blue = batch.unbind(1)
    largest, smallest = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = largest.sub_(smallest)
    hue = _hue(red - smallest, green - smallest, blue - smallest, chroma).add_(6 * shift.view(-1, 1, 1))
    hue.sub_((hue * (1 / 6)).floor_().mul_(6))
    for channel, part in (
        (red, (hue - 3).abs_().sub_(1)),
        (green, (hue - 2).abs_().neg_().add_(2)),
        (blue, hue.sub_(4).abs_().neg_().add_(2)),
    ):
        torch.addcmul(smallest, chroma, part.clamp_(0, 1), out=channel)


def _hue(red: Tensor, green: Tensor, blue: Tensor, chroma: Tensor) -> Tensor:
    """Hue in sixths of the circle, -1 to 5; the channels come with the smallest taken off."""
    scale = chroma.clamp(min=1e-8).reciprocal_()
    hue = torch.where(green == chroma, (blue - red).mul_(scale).add_(2), (red - green).mul_(scale).add_(4))
    return torch.where(red == chroma, (green - blue).mul_(scale), hue)


_JITTERS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


def gaussian_blur(batch: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur float images, N x C x H x W, each with its own standard deviation in pixels (N), mirrored at the edges.

    All are cut off at three times the largest standard deviation that may occur. Two matrix products with a band matrix
    an image, which suit a CPU better than a convolution with as many groups as images have channels.
    """
    height, width = batch.shape[2:]
    rows, columns = _band_matrices(sigma, height, largest), _band_matrices(sigma, width, largest)
    return rows @ batch @ columns.transpose(2, 3)


def _band_matrices(sigma: Tensor, size: int, largest: float) -> Tensor:
    """Blur along one axis as matrices, N x 1 x size x size; rows sum to 1, weight past an edge falls on its mirror."""
    radius = min(math.ceil(3 * largest), size - 1)
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    rows = torch.arange(size, device=sigma.device)
    columns = (rows[:, None] + offsets).abs()
    columns = torch.where(columns >= size, 2 * (size - 1) - columns, columns)
    matrices = torch.zeros(len(sigma), size, size, device=sigma.device)
    matrices.scatter_add_(2, columns.expand(len(sigma), -1, -1), weights[:, None, :].expand(-1, size, -1))
    return matrices[:, None]


def _grey(batch: Tensor) -> Tensor:
    red, green, blue = batch.unbind(1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def _chosen(count: int, probability: float, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) < probability


def _signs(count: int, probability: float, generator: Generator) -> Tensor:
    return torch.where(torch.rand(count, generator=generator) < probability, -1.0, 1.0)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _scale_and_shift(
    mean: tuple[float, float, float], std: tuple[float, float, float], device: torch.device
) -> tuple[Tensor, Tensor]:
    scale = 1 / torch.tensor(std, device=device)
    return scale, -torch.tensor(mean, device=device) * scale
