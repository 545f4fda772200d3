"""What a code comes to at one of its rates."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Means over images when so many channels of the code are kept.

    Attributes:
        channels: that are kept.
        bits_per_pixel: of the whole compressed file, header included; of floats, 16 bits each.
        ssim: against the images themselves.
        psnr: in decibels.
    """

    channels: int
    bits_per_pixel: float
    ssim: float
    psnr: float
