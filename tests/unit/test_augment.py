"""Batched augmentation against torchvision's operations on single images."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torchvision.transforms import InterpolationMode

from sparsight.data import augment
from sparsight.data.augment import Augmentation, AugmentationOptions

NONE = AugmentationOptions(
    crop_scale=(1, 1),
    crop_ratio=(1, 1),
    horizontal_flip=0,
    jitter=0,
    greyscale=0,
    blur=0,
    mean=(0, 0, 0),
    std=(1, 1, 1),
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photos():
    """Smooth colour photos: uint8, 6 x 32 x 32 x 3."""
    coarse = torch.rand(6, 3, 6, 6, generator=generator())
    smooth = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.fixture
def batch(photos):
    return photos.permute(0, 3, 1, 2).float() / 255


def replaced(**options):
    return AugmentationOptions(**{**vars(NONE), **options})


@pytest.mark.parametrize(
    ("operation", "expected", "values"),
    [
        (augment.adjust_brightness, reference.adjust_brightness, (0.6, 1.0, 1.4)),
        (augment.adjust_contrast, reference.adjust_contrast, (0.6, 1.0, 1.4)),
        (augment.adjust_saturation, reference.adjust_saturation, (0.0, 0.6, 1.4)),
        (augment.adjust_hue, reference.adjust_hue, (-0.5, -0.1, 0.0, 0.07, 0.5)),
    ],
)
def test_colour_operations_equal_torchvisions(batch, operation, expected, values):
    for value in values:
        ours = batch.clone()
        operation(ours, torch.full((len(ours), 1, 1, 1), value))
        theirs = torch.stack([expected(image, value) for image in batch])
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_each_image_gets_its_own_factor(batch):
    factors = torch.linspace(0.5, 1.5, len(batch))
    ours = batch.clone()
    augment.adjust_contrast(ours, factors.view(-1, 1, 1, 1))
    theirs = [reference.adjust_contrast(image, float(factor)) for image, factor in zip(batch, factors, strict=True)]
    torch.testing.assert_close(ours, torch.stack(theirs), atol=2e-3, rtol=0)


def test_hue_of_grey_and_saturated_pixels():
    colours = torch.tensor([[0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1.0]])
    batch = colours.view(-1, 3, 1, 1).clone()
    augment.adjust_hue(batch, torch.full((len(batch), 1, 1, 1), 1 / 3))
    expected = torch.tensor([[0.5, 0.5, 0.5], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1.0]])
    torch.testing.assert_close(batch.view(-1, 3), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_blur_equals_torchvisions(batch, sigma):
    ours = augment.gaussian_blur(batch, torch.full((len(batch),), sigma), sigma)
    size = 2 * math.ceil(3 * sigma) + 1
    theirs = reference.gaussian_blur(batch, [size, size], [sigma, sigma])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_blur_with_a_sigma_for_each_image_and_a_kernel_larger_than_the_image():
    small = torch.rand(3, 3, 5, 9, generator=generator())
    blurred = augment.gaussian_blur(small, torch.tensor([0.1, 1.0, 30.0]), 30.0)
    torch.testing.assert_close(blurred[0], small[0], atol=1e-5, rtol=0)
    assert blurred[2].std(dim=(1, 2)).max() < 0.05
    assert blurred.min() >= 0
    assert blurred.max() <= 1


def test_crop_equals_torchvisions_resized_crop(batch):
    top, left, height, width = 4, 10, 16, 20
    maps = torch.tensor([[width / 32, 0, (left + width / 2) / 16 - 1], [0, height / 32, (top + height / 2) / 16 - 1]])
    ours = augment.warp(batch, maps.expand(len(batch), -1, -1))
    theirs = reference.resized_crop(batch, top, left, height, width, [32, 32], InterpolationMode.BILINEAR)
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-4, rtol=0)


def test_flips_are_exact(photos, batch):
    flipped = Augmentation(replaced(horizontal_flip=1.0))(photos, generator())
    torch.testing.assert_close(flipped, batch.flip(3), atol=1e-5, rtol=0)
    flipped = Augmentation(replaced(vertical_flip=1.0))(photos, generator())
    torch.testing.assert_close(flipped, batch.flip(2), atol=1e-5, rtol=0)


def test_quarter_turns_are_exact_and_all_occur(photos, batch):
    many = photos[:1].expand(64, -1, -1, -1)
    turned = Augmentation(replaced(quarter_turns=True))(many, generator())
    targets = torch.stack([batch[0].rot90(k, (1, 2)) for k in range(4)])
    distances = (turned[:, None] - targets).abs().amax(dim=(2, 3, 4))
    assert distances.min(dim=1).values.max() < 1e-3
    assert set(distances.argmin(dim=1).tolist()) == {0, 1, 2, 3}


def test_rotation_equals_torchvisions(batch, monkeypatch):
    monkeypatch.setattr(augment, "_angles", lambda options, count, generator: torch.full((count,), math.radians(20)))
    maps = augment.affine_maps(NONE, len(batch), 32, 32, generator())
    theirs = reference.rotate(batch, 20, InterpolationMode.BILINEAR)
    torch.testing.assert_close(augment.warp(batch, maps)[..., 8:-8, 8:-8], theirs[..., 8:-8, 8:-8], atol=1e-3, rtol=0)


def test_shear_tilts_upright_lines_and_leaves_level_ones(batch, monkeypatch):
    monkeypatch.setattr(augment, "_uniform", lambda shape, low, high, generator: torch.full(shape, high))
    maps = augment.affine_maps(replaced(shear=0.25), len(batch), 32, 32, generator())
    expected = torch.tensor([[1, 0.25, 0], [0, 1, 0.0]]).expand(len(batch), -1, -1)
    torch.testing.assert_close(maps, expected)


def test_crops_stay_inside_the_image_with_the_area_and_ratio_asked_for():
    options = replaced(crop_scale=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3))
    maps = augment.affine_maps(options, 2000, 40, 80, generator())
    widths, heights = maps[:, 0, 0], maps[:, 1, 1]
    assert (maps[:, 0, 2].abs() + widths).max() <= 1 + 1e-6
    assert (maps[:, 1, 2].abs() + heights).max() <= 1 + 1e-6
    area, ratio = widths * heights, (widths * 80) / (heights * 40)
    assert area.min() >= 0.2 - 1e-6
    assert area.max() > 0.6
    assert ratio.min() >= 3 / 4 - 1e-5
    assert ratio.max() <= 4 / 3 + 1e-5


def test_turned_off_it_only_scales(photos, batch):
    torch.testing.assert_close(Augmentation(NONE)(photos, generator()), batch, atol=1e-5, rtol=0)


def test_same_generator_state_gives_same_views_and_the_next_ones_differ(photos):
    transform, random = Augmentation(AugmentationOptions()), generator(7)
    state = random.get_state()
    first, second = transform(photos, random), transform(photos, random)
    again = torch.Generator()
    again.set_state(state)
    assert torch.equal(first, transform(photos, again))
    assert not torch.equal(first, second)


def test_views_are_normalised_float_channels_last_and_in_range(photos):
    options = AugmentationOptions(vertical_flip=0.5, rotation_degrees=20, quarter_turns=True, hue=0.5)
    for seed in range(5):
        views = Augmentation(options)(photos, generator(seed))
        assert views.shape == (6, 3, 32, 32)
        assert views.dtype == torch.float32
        assert views.is_contiguous(memory_format=torch.channels_last)
        pixels = views * torch.tensor(options.std).view(3, 1, 1) + torch.tensor(options.mean).view(3, 1, 1)
        assert pixels.min() >= -1e-4
        assert pixels.max() <= 1 + 1e-4


def test_greyscale_makes_channels_equal(photos):
    grey = Augmentation(replaced(greyscale=1.0))(photos, generator())
    theirs = torch.stack([reference.rgb_to_grayscale(image, 3) for image in photos.permute(0, 3, 1, 2).float() / 255])
    torch.testing.assert_close(grey, theirs, atol=2e-3, rtol=0)


def test_another_size_shows_the_same_crop_smaller(photos):
    whole = Augmentation(replaced())(photos, generator())
    small = Augmentation(replaced(size=16))(photos, generator())
    assert small.shape == (6, 3, 16, 16)
    assert small.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(whole, 2), atol=2e-3, rtol=0)


def test_a_square_size_out_of_a_wide_image_keeps_proportions(photos):
    """Crops of a picture twice as wide, that cover as many of its pixels in height and width, look the same."""
    wide = torch.cat([photos, photos], dim=2)
    half = Augmentation(replaced(size=32, crop_scale=(0.5, 0.5)))(wide, generator())
    assert half.shape == (6, 3, 32, 32)
    for view, photo in zip(half, photos.permute(0, 3, 1, 2) / 255, strict=True):
        rolled = [(torch.roll(photo, shift, dims=2) - view).abs().mean() for shift in range(32)]
        assert min(rolled) < 0.06  # at the best of 32 places; 0.3 at others


def test_normalise_equals_torchvisions(photos, batch):
    ours = augment.normalise(photos, augment.IMAGENET_MEAN, augment.IMAGENET_STD)
    theirs = reference.normalize(batch, list(augment.IMAGENET_MEAN), list(augment.IMAGENET_STD))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_views(photos):
    transform = Augmentation(AugmentationOptions(rotation_degrees=20))
    on_cpu, on_gpu = transform(photos, generator()), transform(photos.cuda(), generator())
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3, rtol=0)
