"""Structural similarity of images (Wang et al. 2004, IEEE Transactions on Image Processing 13(4))."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11
"""Pixels a side of the window; a Gaussian with a standard deviation of 1.5 weighs it."""
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Measure how alike two batches of images are.

    Args:
        images: float, N x C x H x W, 0 to 1; sides of at least 11 pixels.
        others: the same shape.

    Returns:
        float32, N: the mean over windows that lie inside the image, and over channels; 1 for the same image.
    """
    count, channels = images.shape[:2]
    first, second = (each.float().flatten(0, 1).unsqueeze(1) for each in (images, others))
    products = torch.cat([first, second, first * first, second * second, first * second])
    mean1, mean2, square1, square2, product = _blurred(products).chunk(5)
    variances = square1 - mean1.square() + square2 - mean2.square()
    covariance = product - mean1 * mean2
    luminance = (2 * mean1 * mean2 + _C1) / (mean1.square() + mean2.square() + _C1)
    values = luminance * (2 * covariance + _C2) / (variances + _C2)
    return values.mean(dim=(1, 2, 3)).view(count, channels).mean(dim=1)


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of images of 0 to 1: float32, N; at most 100, for equal ones."""
    errors = (images.float() - others.float()).square().mean(dim=(1, 2, 3))
    return -10 * errors.clamp_min(1e-10).log10()


def _blurred(images: Tensor) -> Tensor:
    """Weigh with the Gaussian window, where it fits in."""
    places = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = (-places.square() / (2 * _SIGMA**2)).exp()
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(images, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
