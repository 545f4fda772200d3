"""Pre-training with SwAV: it learns, from near frames too, goes on as if nothing had been, tells when it is stuck."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from films import scenes, write_film
from torch.nn.functional import normalize

from sparsight.data.augment import Augmentation, AugmentationOptions
from sparsight.data.crops import CropOptions, multi_crop
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.evaluation.probes import KnnProbe
from sparsight.models.backbones import create_backbone
from sparsight.models.classifier import load_backbone
from sparsight.models.folder import BackboneDescription, Preprocessing
from sparsight.models.swav import SwAV, SwAVOptions
from sparsight.steps import embed_video
from sparsight.steps.train_swav import Arguments, main
from sparsight.training.frames import FrameOptions, Frames
from sparsight.training.pretraining import CHECKPOINT, EpochRecord, PretrainingOptions
from sparsight.training.swav import SwAVTrainer
from tests.digits import pack_digits

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

VIEWS = AugmentationOptions(crop_scale=(0.5, 1), horizontal_flip=0, rotation_degrees=15, greyscale=0, hue=0, blur=0)
PREPROCESSING = Preprocessing(image_size=16, resize="fit", mean=VIEWS.mean, std=VIEWS.std)
SMALL = CropOptions(small_crops=2, small_crop_size=8, small_crop_scale=(0.2, 0.5))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread: threads that share a core with other tests wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """700 digits in train, 300 in valid; every seven are frames of one video, a second apart."""
    videos = [f"film-{number // 7}" for number in range(1000)]
    times = [float(number % 7) for number in range(1000)]
    return pack_digits(tmp_path_factory.mktemp("digits") / "images", 700, 300, videos=videos, times=times)


def trainer(folder, *, count=None, task=None, crops=SMALL, gaps=None, **options):
    torch.manual_seed(0)
    images = PackedImages(folder)
    positions = images.positions("train")[:count]
    backbone = create_backbone(BackboneDescription(name="resnet10_narrow", small_image_stem=False))
    chosen = {"prototypes": 60, "hidden_dimension": 128, "queue_size": 128, "queue_start_epoch": 1, **(task or {})}
    return SwAVTrainer(
        SwAV(backbone, SwAVOptions(**chosen)),
        images,
        positions,
        multi_crop(VIEWS, crops, 16),
        PretrainingOptions(**{"epochs": 3, "batch_size": 32, "warmup_epochs": 1, **options}),
        device=torch.device("cpu"),
        precision=torch.float32,
        frames=Frames(images, positions, FrameOptions(**gaps)) if gaps else None,
    )


def ignore(record):
    pass


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A training on digits as photos, and the accuracy of its probe before."""
    training = trainer(digits, epochs=6)
    probe = KnnProbe(training.images, PREPROCESSING)
    untrained = probe(training.network.backbone)["knn_accuracy"]
    training.fit(tmp_path_factory.mktemp("trained"), probe=probe, report=ignore)
    return training, untrained


def test_pre_training_makes_neighbours_of_alike_images(trained):
    training, untrained = trained
    last = training.history[-1]
    assert last.probe["knn_accuracy"] > untrained + 0.04
    assert last.probe["knn_accuracy"] > 0.8
    assert last.loss < 0.95 * math.log(60)
    assert last.spread > 0.3


def test_resumed_training_ends_with_the_same_bits(digits, tmp_path):
    whole = trainer(digits, count=100)
    (tmp_path / "whole").mkdir()
    whole.fit(tmp_path / "whole", report=ignore)

    def interrupt(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    with pytest.raises(KeyboardInterrupt):
        trainer(digits, count=100).fit(tmp_path / "cut", report=interrupt)
    resumed = trainer(digits, count=100)
    resumed.fit(tmp_path / "cut", report=ignore)
    assert resumed.history == whole.history
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def calls(training, folder):
    """What the network was told in each step of a training."""
    told, forward = [], training.network.forward

    def watched(crops, **how):
        told.append({**how, "crops": [tuple(crop.shape) for crop in crops]})
        return forward(crops, **how)

    training.network.forward = watched
    folder.mkdir()
    training.fit(folder, report=ignore)
    return told


def test_prototypes_join_in_after_their_epochs_and_the_queue_after_its_own_once_full(digits, tmp_path):
    task = {"freeze_prototypes_epochs": 1, "queue_start_epoch": 2, "queue_size": 64}
    training = trainer(digits, count=64, task=task)
    first = training.network.prototypes.heads[0].weight.clone()
    at_release = []
    training.judge = lambda: at_release.append(training.network.prototypes.heads[0].weight.clone())
    told = calls(training, tmp_path / "one")
    assert [each["frozen"] for each in told] == [True] * 2 + [False] * 4
    assert [each["with_queue"] for each in told] == [False] * 4 + [True] * 2
    assert told[0]["crops"] == [(32, 3, 16, 16)] * 2 + [(32, 3, 8, 8)] * 2
    torch.testing.assert_close(at_release[0], first)
    assert not torch.allclose(at_release[1], first, atol=1e-4)

    early = trainer(digits, count=64, task={**task, "queue_start_epoch": 0, "queue_size": 96})
    assert [each["with_queue"] for each in calls(early, tmp_path / "two")] == [False] * 3 + [True] * 3


def test_second_views_are_of_near_frames_of_the_same_video(digits):
    training = trainer(digits, gaps={"frame_gap_seconds": 1.0})
    plain = [Augmentation(dataclasses.replace(PLAIN, size=view.options.size)) for view in training.views]
    training.views = plain
    part = next(training.parts(0))
    own = training.own(part.batch)
    seen = [training.view(part, number, own) for number in range(4)]
    anchors, partners = part.batch.positions.reshape(2, -1)
    assert (anchors // 7 == partners // 7).all()
    assert (np.abs(anchors - partners) == 1).all()
    for number, positions in enumerate([anchors, partners, anchors, partners]):
        pixels = torch.from_numpy(training.images.gather(positions)).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(seen[number].mean(dim=(1, 2, 3)), pixels.mean(dim=(1, 2, 3)), atol=0.02, rtol=0)


PLAIN = AugmentationOptions(
    crop_scale=(1, 1), crop_ratio=(1, 1), horizontal_flip=0, jitter=0, greyscale=0, blur=0, mean=(0,) * 3, std=(1,) * 3
)


def test_near_frames_that_show_the_same_teach_more_than_views_of_one(trained, digits, tmp_path):
    """A video holds seven digits of one kind, so that neighbours in time are another writer's."""
    labels = PackedImages(digits).index["label"].to_numpy(str)
    before = [int((labels[:number] == label).sum()) for number, label in enumerate(labels)]
    videos = [f"{label}-{count // 7}" for label, count in zip(labels, before, strict=True)]
    frames = pack_digits(tmp_path / "images", 700, 300, videos=videos, times=[float(count % 7) for count in before])
    training = trainer(frames, epochs=4, gaps={"frame_gap_seconds": 6.0}, task={"queue_size": 0})
    training.fit(tmp_path, probe=KnnProbe(training.images, PREPROCESSING), report=ignore)
    photos, _ = trained
    assert training.history[-1].probe["knn_accuracy"] > photos.history[-1].probe["knn_accuracy"] + 0.02


# Stuck


def stuck(folder, epochs, loss=None, **task):
    """A training whose last epochs had the loss of blind guessing, or another."""
    training = trainer(folder, warmup_epochs=2, epochs=30, task=task)
    loss = math.log(60) + 0.005 if loss is None else loss
    training.history = [
        EpochRecord(epoch=number + 1, loss=loss, learning_rate=0.06, spread=0.2, probe={}) for number in range(epochs)
    ]
    return training


@pytest.mark.parametrize(("epochs", "loss", "told"), [(4, None, ""), (5, None, "for 3 epochs"), (11, 3.9, "")])
def test_epochs_that_tell_nothing_are_warned_of(digits, capsys, epochs, loss, told):
    stuck(digits, epochs, loss).judge()
    errors = capsys.readouterr().err
    if told:
        for words in (told, "no better than ln(60) = 4.094", "epsilon to 0.01", "learning_rate to 0.02"):
            assert words in errors
    else:
        assert errors == ""


def test_a_training_that_stays_stuck_ends_and_says_what_to_change(digits, capsys):
    expected = r"stuck: the loss has been 4\.099 or so for 10 epochs.*\n.*prototypes to 32.*queue_start_epoch to 12"
    with pytest.raises(SparsightError, match=expected):
        stuck(digits, 12).judge()
    stuck(digits, 12, stop_when_stuck=False).judge()
    assert "warning: the loss has been 4.099" in capsys.readouterr().err


def test_a_collapsed_network_is_found_stuck(digits, tmp_path, capsys):
    """All images have one projection: Sinkhorn deals them out evenly, and every prototype is as likely."""
    training = trainer(digits, count=32, epochs=4, warmup_epochs=0, learning_rate=0.0, task={"queue_size": 0})
    training.network.head.forward = lambda features: features[:, :1] * 0 + 1.0 + torch.zeros(128)
    training.fit(tmp_path, report=ignore)
    assert "that of blind guessing (spread 0.00)" in capsys.readouterr().err


def test_divergence_is_told_with_its_step(digits, tmp_path):
    training = trainer(digits, learning_rate=0.0)
    forward, called = training.network.forward, []

    def poisoned(*crops, **how):
        called.append(how)
        loss, projections = forward(*crops, **how)
        return (loss * float("nan") if len(called) == 7 else loss), projections

    training.network.forward = poisoned
    with pytest.raises(SparsightError, match=r"the loss became nan in epoch 1, step 7 \(learning_rate"):
        training.fit(tmp_path, report=ignore)
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 129}, "A step has 129 images; the queue of 128"),
        ({"crops": CropOptions(small_crop_size=20)}, "small_crop_size comes to 20 pixels; expected 8 to 16"),
        ({"crops": CropOptions()}, "small_crop_size comes to 7 pixels"),
        ({"crops": CropOptions(large_crop_size=4)}, "large_crop_size comes to 4 pixels"),
        ({"crops": CropOptions(small_crops=-1)}, "small_crops is -1"),
    ],
)
def test_options_that_cannot_work_are_refused_before_training(digits, wrong, message):
    with pytest.raises(SparsightError, match=message):
        trainer(digits, **wrong)


def test_small_crops_show_a_small_part_at_a_small_size():
    """In a picture whose brightness is its column, a crop's range of brightness is its width."""
    columns = torch.arange(64, dtype=torch.uint8).mul(4).repeat(32, 64, 1)
    large, _, small = multi_crop(PLAIN, CropOptions(small_crops=1, small_crop_scale=(0.05, 0.14)), 64)
    generator = torch.Generator().manual_seed(0)
    whole, part = (view(columns[..., None].expand(-1, -1, -1, 3), generator) for view in (large, small))
    assert whole.shape[2:] == (64, 64)
    assert part.shape[2:] == (27, 27)
    width = part[:, 0, 13].amax(dim=1) - part[:, 0, 13].amin(dim=1)
    assert width.min() > 0.15
    assert width.max() < 0.4


# The step


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    """An MLflow store in a file."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)


def test_the_step_makes_a_model_with_its_report_and_registers_it(tmp_path, tracking, capsys):
    few = pack_digits(tmp_path / "images", 96, 30)
    chosen = Arguments(
        images=few,
        probe_images=few,
        model=tmp_path / "model",
        backbone="resnet10_narrow",
        small_image_stem="off",
        epochs=2,
        batch_size=32,
        prototypes=20,
        hidden_dimension=64,
        queue_size=0,
        small_crops=1,
        small_crop_size=8,
    )
    main(chosen)
    assert "Registered swav/1" in capsys.readouterr().out
    backbone, description = load_backbone(tmp_path / "model")
    assert description.hyperparameters["method"] == "SwAV"
    assert description.hyperparameters["prototypes"] == 20
    assert normalize(backbone(torch.rand(2, 3, 16, 16))).shape == (2, 256)
    metrics = json.loads((tmp_path / "model" / "report" / "metrics.json").read_text())
    assert set(metrics["final"]) == {"loss", "spread", "knn_accuracy", "knn_untrained", "knn_majority"}
    page = (tmp_path / "model" / "report" / "index.html").read_text()
    assert f"blind guessing among 20 has {math.log(20):.2f}" in page
    main(chosen)
    assert capsys.readouterr().out == "Registered swav/2\n", "what is finished isn't trained again"
    photos = dataclasses.replace(chosen, model=tmp_path / "other", frame_gap_seconds=1.0)
    with pytest.raises(SparsightError, match="holds photos: its index has no columns video and time"):
        main(photos)


def test_frames_of_videos_are_trained_on(tmp_path, tracking, capsys):
    write_film(tmp_path / "films" / "street.mp4", scenes(60))
    embed_video.main(
        embed_video.Arguments(
            videos=tmp_path / "films",
            embeddings=tmp_path / "embeddings",
            images=tmp_path / "frames",
            model="none",
            backbone="resnet10_narrow",
            width=64,
            min_difference=0,
        )
    )
    assert PackedImages(tmp_path / "frames").size == (36, 64)
    chosen = Arguments(
        images=tmp_path / "frames",
        model=tmp_path / "model",
        backbone="resnet10_narrow",
        epochs=1,
        batch_size=8,
        prototypes=8,
        hidden_dimension=32,
        queue_size=0,
        small_crops=1,
        frame_gap_seconds=0.3,
        batch_gap_seconds=0.2,
    )
    main(chosen)
    assert "Registered swav/1" in capsys.readouterr().out
    assert load_backbone(tmp_path / "model")[1].preprocessing.image_size == 64
