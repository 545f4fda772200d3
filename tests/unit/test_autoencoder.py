"""Autoencoders: shapes and rates, tiles without seams, learning, and training that goes on after an interruption."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sparsight.data.corruption import Corruption, random_crops, resize_by_area
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.evaluation.view_agreement import compare_views
from sparsight.models.autoencoder import Autoencoder, AutoencoderDescription
from sparsight.models.barlow import Agreement, barlow_loss, cross_correlation
from sparsight.models.classifier import load_backbone, load_classifier
from sparsight.models.codec.codec import Codec
from sparsight.models.codec.container import CompressedError
from sparsight.models.codec.tiles import scaled, tiles
from sparsight.models.ssim import ssim
from sparsight.steps.train_autoencoder import Arguments, main
from sparsight.training.autoencoder import CHECKPOINT, AutoencoderOptions, AutoencoderTrainer
from sparsight.training.autoencoder_results import whole_codes, whole_images
from tests.killed_steps import files, run_and_kill_after_an_epoch
from tests.packed_images import write_packed_images

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
CPU = torch.device("cpu")
SIDE = 32


def describe(design="residual", *, binary=True, channels=32, cell=8, **shape):
    return AutoencoderDescription(design=design, binary=binary, channels=channels, cell=cell, code_bits=32, **shape)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """240 digits in train, 60 in valid, 32 pixels a side."""
    content = load_digits()
    small = [Image.fromarray((image * 15.9).astype(np.uint8)) for image in content.images[:300]]
    pixels = np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in small])
    images = np.repeat(pixels[..., None], 3, axis=3)
    labels = [str(label) for label in content.target[:300]]
    folder = tmp_path_factory.mktemp("digits") / "images"
    return write_packed_images(folder, images, labels, ["train"] * 240 + ["valid"] * 60)


def trainer(folder, description=None, **options):
    torch.manual_seed(0)
    chosen = AutoencoderOptions(**{"epochs": 2, "batch_size": 16, **options})
    network = Autoencoder(description or describe())
    return AutoencoderTrainer(network, PackedImages(folder), chosen, device=CPU, precision=torch.float32)


def ignore(record):
    pass


# The network


@pytest.mark.parametrize(
    ("description", "bits_per_pixel"),
    [
        (describe("reference", channels=2, cell=2), 0.5),
        (describe("reference", channels=4, cell=4), 0.25),
        (describe("reference", binary=False, channels=2, cell=2), 8),
        (describe("reference", channels=8, cell=8), 0.125),
        (describe(channels=128), 2),
        (describe(binary=False, channels=24), 6),
        (describe("conv_blocks", channels=8, cell=4), 0.5),
        (describe("conv_blocks", binary=False, channels=16, cell=4), 16),
    ],
)
@pytest.mark.parametrize("size", [(16, 40), (128, 128)])
def test_codes_have_their_size_and_images_come_back_in_theirs(description, bits_per_pixel, size):
    network = Autoencoder(description).eval()
    with torch.no_grad():
        made, code, _ = network(torch.rand(1, 3, *size))
    assert code.shape == (1, description.channels, size[0] // description.cell, size[1] // description.cell)
    assert made.shape == (1, 3, *size)
    assert description.bits_per_pixel == bits_per_pixel
    if description.binary:
        assert set(code.unique().tolist()) <= {-1.0, 1.0}


def test_the_reference_at_128_pixels_has_64_x_64_x_2_codes():
    network = Autoencoder(describe("reference", channels=2, cell=2))
    assert network.encode(torch.rand(1, 3, 128, 128))[0].shape == (1, 2, 64, 64)
    widths = [layer.out_channels for layer in network.encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [32, 64, 128, 128, 64]


def test_a_code_cut_after_a_stage_is_decoded_as_if_the_rest_were_not_there():
    network = Autoencoder(describe()).eval()
    code = torch.randint(0, 2, (2, 32, 3, 3)) * 2.0 - 1
    other = code.clone()
    other[:, 16:] *= -1
    kept = torch.tensor([16, 16])
    assert torch.equal(network.decode(code, kept), network.decode(other, kept))
    assert not torch.equal(network.decode(code), network.decode(other))


@pytest.mark.parametrize(
    "description",
    [
        describe(),
        describe("reference", cell=2),
        describe("reference", channels=4, cell=8),
        describe("conv_blocks", cell=4),
        describe("reference", channels=4, cell=4, layers=4, filter_size=5, filters=8),
    ],
)
def test_tiles_give_what_the_whole_image_gives(description):
    torch.manual_seed(0)
    network = Autoencoder(description).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.normal_(layer.weight, std=0.1)
    cell, (rows, columns) = description.cell, (60, 5)
    images, code = torch.rand(1, 3, rows * cell, columns * cell), torch.randn(1, description.channels, rows, columns)
    features, decoded = torch.zeros(1), torch.zeros_like(images)
    with torch.no_grad():
        whole, image = network.encoder(images), network.decode(code)
        features = torch.zeros_like(whole)
        for tile in tiles(rows, columns, description.reach, side=8):
            pixels, inner = (tuple(scaled(part, cell) for part in parts) for parts in (tile.outer, tile.inner))
            features[:, :, *tile.inner] = network.encoder(images[:, :, *pixels])[:, :, *tile.of_outer()]
            decoded[:, :, *inner] = network.decode(code[:, :, *tile.outer])[:, :, *tile.of_outer(cell)]
    torch.testing.assert_close(features, whole, rtol=1e-4, atol=float(whole.abs().max()) * 1e-5)
    torch.testing.assert_close(decoded, image, rtol=1e-4, atol=float(image.abs().max()) * 1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": 20}, "multiples of 8"),
        ({"cell": 4}, "cells of 8 pixels a side"),
        ({"cell": 3}, "cell is 3; expected 2, 4, 8"),
        ({"design": "conv_blocks"}, "conv_blocks has cells of 4 pixels a side"),
        ({"filters": 16}, "filters is 16; only the reference design can have another one than 32"),
        ({"design": "reference", "filter_size": 4}, "filter_size is 4; expected an odd number"),
    ],
)
def test_numbers_that_a_design_cannot_have_are_refused(wrong, message):
    with pytest.raises(SparsightError, match=message):
        Autoencoder(describe(**wrong))


# What it is trained with


def test_salt_and_pepper_spoils_its_part_in_black_and_white():
    images = torch.full((4, 3, 64, 64), 0.5)
    spoilt = Corruption(salt_and_pepper=0.2)(images, torch.Generator().manual_seed(0))
    assert float((spoilt == 0).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float((spoilt == 1).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(spoilt[:, 0], spoilt[:, 2])


def test_blur_comes_as_often_as_asked_for():
    images = torch.rand(200, 3, 16, 16)
    spoilt = Corruption(blur=0.3)(images, torch.Generator().manual_seed(0))
    changed = (spoilt != images).flatten(1).any(dim=1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.1)


def test_resizing_by_area_takes_means_and_crops_keep_pixels():
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(resize_by_area(images, 16), torch.nn.functional.avg_pool2d(images, 2))
    crops = random_crops(images, 16, torch.Generator().manual_seed(0))
    assert crops.shape == (2, 3, 16, 16)
    assert set(crops.flatten().tolist()) <= set(images.flatten().tolist())


def test_cross_correlation_is_numpys_and_tells_copies_from_strangers():
    torch.manual_seed(0)
    first, second = torch.randn(500, 4), torch.randn(500, 4)
    expected = np.corrcoef(first.numpy().T, second.numpy().T)[:4, 4:]
    np.testing.assert_allclose(cross_correlation(first, second).numpy(), expected, atol=1e-5)
    same = Agreement.of(cross_correlation(first, 3 * first + 1))
    assert same.diagonal == pytest.approx(1, abs=1e-5)
    assert same.off_diagonal < 0.01
    assert Agreement.of(cross_correlation(first, second)).diagonal < 0.1
    assert barlow_loss(first, first) < 0.01 < barlow_loss(first, second)


def test_perfect_copies_are_seen_alike_and_blank_ones_are_not(digits):
    images = PackedImages(digits)
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(192, 16))

    def prepare(positions):
        return whole_images(images, positions, 0, CPU)

    normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    same = compare_views(encoder, normalisation, images, prepare, lambda batch: batch)
    blank = compare_views(encoder, normalisation, images, prepare, lambda batch: 0 * batch + batch.flatten()[0])
    assert same.agreement.diagonal == pytest.approx(1, abs=1e-4)
    assert same.probes["knn_agreement"] == same.probes["linear_agreement"] == 1
    assert same.probes["knn_originals"] == same.probes["knn_reconstructions"] > 0.7
    assert blank.agreement.diagonal < 0.1
    assert blank.probes["knn_agreement"] < 0.4


# Training


def test_it_learns_what_guessing_cannot_reach(digits, tmp_path):
    training = trainer(digits, epochs=5, learning_rate=3e-3, schedule="cosine")
    training.fit(tmp_path, report=ignore)
    clean = training.whole(training.valid)
    mean = training.whole(training.train).mean(dim=0, keepdim=True).expand_as(clean)
    chance = float(ssim(mean, clean).mean())
    best = training.best_epoch
    assert chance < 0.5
    assert best.valid_ssim > 0.85
    assert best.valid_psnr > 20


STUCK = {"epochs": 7, "batch_size": 80, "min_delta": 10.0}
"""The first epoch stays the best, and the learning rate falls for the last."""


@pytest.mark.parametrize(
    "options", [{"epochs": 3}, {"epochs": 3, "description": describe("conv_blocks", cell=4)}, STUCK]
)
def test_resumed_training_ends_with_the_same_bits(digits, tmp_path, options):
    options = options | {"rounding": "stochastic", "crop_size": 16, "corruption": Corruption(salt_and_pepper=0.1)}
    whole = trainer(digits, **options)
    (tmp_path / "whole").mkdir()
    whole.fit(tmp_path / "whole", report=ignore)

    def interrupt(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    with pytest.raises(KeyboardInterrupt):
        trainer(digits, **options).fit(tmp_path / "cut", report=interrupt)
    resumed = trainer(digits, **options)
    resumed.fit(tmp_path / "cut", report=ignore)
    assert resumed.history == whole.history
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_it_ends_early_and_keeps_the_best_weights(digits, tmp_path):
    training = trainer(digits, epochs=30, patience=2, min_delta=10.0)
    training.fit(tmp_path, report=ignore)
    assert len(training.history) == 3
    assert training.best_epoch.epoch == 1
    best = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    once = trainer(digits, epochs=1)
    (tmp_path / "once").mkdir()
    once.fit(tmp_path / "once", report=ignore)
    assert all(torch.equal(tensor, best[name]) for name, tensor in once.network.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 241}, "240 images to train on, fewer than one batch of 241"),
        ({"crop_size": 40}, "crop_size is 40, larger than images of 32"),
        ({"crop_size": 20}, "crop_size is 20; expected a multiple of 8"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_options_that_cannot_work_are_refused_before_training(digits, wrong, message):
    with pytest.raises(SparsightError, match=message):
        trainer(digits, **wrong)


def test_divergence_is_told(digits, tmp_path):
    with pytest.raises(SparsightError, match=r"diverged.*\n.*Lower learning_rate"):
        trainer(digits, learning_rate=1e30).fit(tmp_path, report=ignore)
    assert not (tmp_path / CHECKPOINT).exists()


# The step


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """An MLflow store in a file, for the step in this process and in others."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("mlflow")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(folder)
        yield


def arguments(digits, model):
    return Arguments(
        images=digits,
        model=model,
        validation_model="none",
        channels=32,
        code_bits=32,
        epochs=3,
        batch_size=16,
        learning_rate=0.002,
        rounding="stochastic",
        salt_and_pepper=0.02,
    )


@pytest.fixture(scope="module")
def model(digits, tracking, tmp_path_factory):
    """A model folder as the step makes it, with labelled images to compare views on."""
    folder = tmp_path_factory.mktemp("step") / "model"
    main(arguments(digits, folder))
    return folder


def test_killed_and_run_again_the_step_makes_the_very_same_model(model, digits, tmp_path, tracking, capsys):
    chosen = arguments(digits, tmp_path / "cut")
    assert run_and_kill_after_an_epoch("train_autoencoder", chosen) == -signal.SIGKILL
    assert not chosen.model.exists()
    main(chosen)
    assert "Going on after epoch" in capsys.readouterr().out
    assert files(chosen.model) == files(model)
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_the_step_makes_a_model_with_a_report(model):
    content = json.loads((model / "report" / "metrics.json").read_text())
    assert {"ssim", "psnr", "bits_per_pixel", "view_diagonal", "knn_agreement", "linear_agreement"} <= set(
        content["final"]
    )
    assert [rate["channels"] for rate in content["rates"]] == [8, 16, 32]
    sizes = [rate["bits_per_pixel"] for rate in content["rates"]]
    assert sizes == sorted(sizes)
    assert content["rates"][0]["ssim"] < content["rates"][-1]["ssim"]
    assert (model / "report" / "index.html").stat().st_size > 50_000
    assert {"curves.png", "reconstructions.png", "cross_correlation.png"} <= {
        path.name for path in (model / "report").iterdir()
    }
    assert not (model / CHECKPOINT).exists()


def test_mlflow_gives_the_codes_that_search_gets(model, digits):
    import mlflow.pyfunc
    import pandas as pd

    images = PackedImages(digits)
    codes = whole_codes(model, images, np.arange(5))
    assert codes.shape == (5, 4)
    contents = []
    for number, pixels in enumerate(images.gather(np.arange(5))):
        path = model.parent / f"{number}.png"
        Image.fromarray(pixels).save(path)
        contents.append(path.read_bytes())
    told = mlflow.pyfunc.load_model(str(model / "mlflow_model")).predict(pd.DataFrame({"image": contents}))
    assert told["code"].tolist() == [bytes(code).hex() for code in codes]


def test_an_autoencoder_is_no_backbone(model):
    with pytest.raises(SparsightError, match="design residual, whose encoder is no backbone"):
        load_backbone(model)
    with pytest.raises(SparsightError, match="holds an autoencoder; expected a backbone or a classifier"):
        load_classifier(model)


# The codec


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 50), (5, 300), (600, 530)])
@pytest.mark.parametrize("grey", [True, False])
def test_images_of_any_size_come_back_in_their_size(model, size, grey):
    codec = Codec(model, threads=2)
    rng = np.random.default_rng(0)
    pixels = np.asarray(
        Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    )
    pixels = np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels
    content = codec.compress(pixels)
    made = codec.decompress(content)
    assert made.shape == pixels.shape
    assert made.dtype == np.uint8
    assert bool((made == made[..., :1]).all()) or not grey
    np.testing.assert_array_equal(codec.decompress(content), made)


def test_a_budget_is_kept(model, digits):
    codec = Codec(model)
    pixels = np.concatenate(PackedImages(digits).gather(np.arange(12)))
    sizes = [8 * len(codec.compress(pixels, bits)) / pixels[..., 0].size for bits in (0.15, 0.3, 1.0)]
    assert sizes[0] <= 0.15
    assert sizes[0] < sizes[1] <= 0.3
    assert sizes[1] < sizes[2] < 0.55


def test_another_model_is_refused(model, digits, tmp_path):
    import shutil

    from sparsight.models.folder import WEIGHTS, read_weights, write_weights

    other = shutil.copytree(model, tmp_path / "other")
    weights = read_weights(other)
    weights["decoder.0.narrow.bias"] += 1
    (other / WEIGHTS).unlink()
    write_weights(other, weights)
    content = Codec(model).compress(PackedImages(digits).gather(np.arange(1))[0])
    with pytest.raises(CompressedError, match=r"made with the model [0-9a-f]{16}; this one is [0-9a-f]{16}"):
        Codec(other).decompress(content)


def test_a_backbone_is_no_codec(tmp_path):
    with pytest.raises(SparsightError, match="expected a model folder"):
        Codec(tmp_path)
