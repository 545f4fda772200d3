"""Pre-training: it learns, goes on after a kill as if nothing had been, and says what is wrong."""

import dataclasses
import json
import signal

import pytest
import torch

from sparsight.data.augment import Augmentation, AugmentationOptions
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.evaluation.probes import KnnProbe
from sparsight.models.backbones import create_backbone
from sparsight.models.classifier import load_backbone
from sparsight.models.folder import BackboneDescription, Preprocessing
from sparsight.models.moco import MoCo, MoCoOptions
from sparsight.steps.train_moco import Arguments, main
from sparsight.training.moco import MoCoTrainer
from sparsight.training.pretraining import CHECKPOINT, PretrainingOptions
from tests.digits import pack_digits
from tests.killed_steps import files, run_and_kill_after_an_epoch

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

CPU = torch.device("cpu")
VIEWS = AugmentationOptions(crop_scale=(0.5, 1), horizontal_flip=0, rotation_degrees=15, greyscale=0, hue=0, blur=0)
PREPROCESSING = Preprocessing(image_size=16, resize="fit", mean=VIEWS.mean, std=VIEWS.std)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread, here and in processes started: threads that share a core with other tests wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """700 digits in train, 300 in valid."""
    return pack_digits(tmp_path_factory.mktemp("digits") / "images", 700, 300)


def trainer(folder, *, precision=torch.float32, count=None, task=None, **options):
    torch.manual_seed(0)
    images = PackedImages(folder)
    backbone = create_backbone(BackboneDescription(name="resnet10_narrow", small_image_stem=False))
    chosen = PretrainingOptions(**{"epochs": 3, "batch_size": 64, "warmup_epochs": 1, **options})
    return MoCoTrainer(
        MoCo(backbone, MoCoOptions(**{"queue_size": 512, **(task or {})})),
        images,
        images.positions("train")[:count],
        [Augmentation(VIEWS)] * 2,
        chosen,
        device=CPU,
        precision=precision,
    )


def ignore(record):
    pass


def test_pre_training_makes_neighbours_of_alike_images(digits, tmp_path):
    training = trainer(digits, epochs=10, probe_every=4)
    probe = KnnProbe(training.images, PREPROCESSING)
    untrained = probe(training.network.backbone)["knn_accuracy"]
    records = []
    training.fit(tmp_path, probe=probe, report=records.append)
    trained = records[-1].probe["knn_accuracy"]
    assert trained > untrained + 0.04
    assert trained > 0.8
    assert [record.epoch for record in records if record.probe] == [4, 8, 10]
    assert records[-1].spread > 0.2


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_resumed_training_ends_with_the_same_bits(digits, tmp_path, precision):
    whole = trainer(digits, count=200, precision=precision)
    (tmp_path / "whole").mkdir()
    whole.fit(tmp_path / "whole", report=ignore)

    def interrupt(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    with pytest.raises(KeyboardInterrupt):
        trainer(digits, count=200, precision=precision).fit(tmp_path / "cut", report=interrupt)
    resumed, records = trainer(digits, count=200, precision=precision), []
    resumed.fit(tmp_path / "cut", report=records.append)
    assert [record.epoch for record in records] == [1, 2, 3]
    assert resumed.history == whole.history
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_half_precision_trains_and_keeps_its_gradient_scale_in_the_checkpoint(digits, tmp_path):
    training = trainer(digits, count=16, batch_size=16, epochs=1, precision=torch.float16)
    training.fit(tmp_path, report=ignore)
    assert all(parameter.isfinite().all() for parameter in training.network.parameters())
    training.scaler.update(2.0)
    training.save(tmp_path / CHECKPOINT)
    resumed = trainer(digits, count=16, batch_size=16, epochs=1, precision=torch.float16)
    resumed.restore(tmp_path / CHECKPOINT)
    assert resumed.scaler.get_scale() == 2.0


def test_a_probe_changes_nothing_of_the_training(digits, tmp_path):
    plain, probed = trainer(digits, count=200, epochs=1), trainer(digits, count=200, epochs=1)
    for number, (training, probe) in enumerate([(plain, None), (probed, KnnProbe(probed.images, PREPROCESSING))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        training.fit(folder, probe=probe, report=ignore)
    assert torch.equal(plain.network.queue, probed.network.queue)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 701}, "700 images to train on, fewer than one batch of 701"),
        ({"batch_size": 600}, "600 keys; the queue of 512"),
        ({"batch_size": 300, "task": {"symmetric": True}}, "600 keys; the queue of 512"),
        ({"batch_size": 6}, "less than 2 images for each of 4"),
        ({"epochs": 0}, "epochs is 0; expected 1 or more"),
    ],
)
def test_options_that_cannot_work_are_refused_before_training(digits, wrong, message):
    with pytest.raises(SparsightError, match=message):
        trainer(digits, **wrong)


def test_divergence_is_told_and_keeps_the_last_good_checkpoint(digits, tmp_path):
    with pytest.raises(SparsightError, match=r"diverged.*learning_rate 1e\+30.*\n.*Lower learning_rate"):
        trainer(digits, learning_rate=1e30).fit(tmp_path, report=ignore)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_checkpoint_of_another_network_is_refused(digits, tmp_path):
    training = trainer(digits)
    training.save(tmp_path / CHECKPOINT)
    with pytest.raises(SparsightError, match="belongs to another network"):
        trainer(digits, task={"dimension": 32}).restore(tmp_path / CHECKPOINT)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trains_on_a_gpu(digits, tmp_path):
    training = trainer(digits, epochs=2)
    training.device = torch.device("cuda")
    training.network.cuda()
    training.fit(tmp_path, report=ignore)
    assert training.history[-1].loss < 6.5


# The step


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """An MLflow store in a file, for the step in this process and in others."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("mlflow")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.chdir(folder)
        yield


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory):
    """192 digits in train, 60 in valid."""
    return pack_digits(tmp_path_factory.mktemp("digits") / "images", 192, 60)


def arguments(digits, model, **others):
    return Arguments(
        images=digits,
        probe_images=digits,
        model=model,
        backbone="resnet10_narrow",
        small_image_stem="off",
        epochs=4,
        batch_size=64,
        queue_size=256,
        **others,
    )


def test_killed_and_run_again_the_step_makes_the_very_same_model(few_digits, tmp_path, tracking, capsys):
    chosen = arguments(few_digits, tmp_path / "cut")
    assert run_and_kill_after_an_epoch("train_moco", chosen) == -signal.SIGKILL
    assert not chosen.model.exists()
    main(chosen)
    assert "Going on after epoch" in capsys.readouterr().out
    _train_and_register_only_then(arguments(few_digits, tmp_path / "whole"), capsys)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"cut", "whole"}
    _check_model(tmp_path / "whole")


def _train_and_register_only_then(chosen, capsys):
    """A model that is finished, but couldn't be registered, isn't trained again."""
    with pytest.raises(SparsightError, match="can't be a model's name"):
        main(dataclasses.replace(chosen, model_name="wrong name!"))
    assert "epoch 4/4" in capsys.readouterr().out
    main(chosen)
    assert capsys.readouterr().out == "Registered moco/2\n"


def _check_model(folder):
    backbone, description = load_backbone(folder)
    assert description.kind == "backbone"
    assert description.preprocessing.image_size == 16
    assert description.hyperparameters["temperature"] == 0.2
    assert description.hyperparameters["epochs"] == 4
    assert backbone(torch.rand(1, 3, 16, 16)).shape == (1, 256)
    assert not any(name.startswith("fc") for name in backbone.state_dict())
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert set(metrics["final"]) == {"loss", "spread", "knn_accuracy", "knn_untrained", "knn_majority"}
    assert len(metrics["history"]) == 4
    assert (folder / "report" / "index.html").stat().st_size > 50_000
    assert not (folder / CHECKPOINT).exists()


def test_ended_while_the_model_was_written_the_step_goes_on(few_digits, tmp_path, tracking, monkeypatch, capsys):
    def end(*_):
        raise KeyboardInterrupt

    chosen = dataclasses.replace(arguments(few_digits, tmp_path / "model"), epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(MoCoTrainer, "remove_checkpoint", end)
        with pytest.raises(KeyboardInterrupt):
            main(chosen)
    main(chosen)
    assert "Going on after epoch 1 of 1" in capsys.readouterr().out
    assert load_backbone(tmp_path / "model")[1].hyperparameters["epochs"] == 1
