"""SSIM and PSNR are what others compute."""

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from sparsight.models.ssim import psnr, ssim


@pytest.mark.parametrize("shape", [(3, 1, 11, 16), (2, 3, 33, 21)])
def test_ssim_is_that_of_torchmetrics(shape):
    torch.manual_seed(0)
    images = torch.rand(shape)
    others = (images + 0.2 * torch.randn(shape)).clamp(0, 1)
    # torchmetrics mirrors a border of five pixels, and takes the windows around all pixels; ours lie within an image.
    mirrored = [torch.nn.functional.pad(each, (5, 5, 5, 5), mode="reflect") for each in (images, others)]
    expected = structural_similarity_index_measure(images, others, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(*mirrored), expected, atol=1e-5, rtol=0)


def test_equal_images_have_one_and_a_hundred_decibels():
    images = torch.rand(2, 3, 16, 16)
    assert ssim(images, images).tolist() == pytest.approx([1, 1])
    assert psnr(images, images).tolist() == [100, 100]


def test_psnr_is_that_of_torchmetrics():
    images, others = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    assert float(psnr(images, others)) == pytest.approx(float(peak_signal_noise_ratio(others, images, data_range=1.0)))
