"""SimCLR and Barlow Twins: lightly's losses over a whole batch, and a training that learns."""

import math

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, NTXentLoss

from sparsight.data.augment import Augmentation, AugmentationOptions
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.evaluation.probes import KnnProbe
from sparsight.models.backbones import create_backbone
from sparsight.models.classifier import load_backbone
from sparsight.models.folder import BackboneDescription, Preprocessing
from sparsight.models.two_views import BarlowTwins, BarlowTwinsOptions, SimCLR, SimCLROptions
from sparsight.steps import train_barlow_twins, train_simclr
from sparsight.training.pretraining import PretrainingOptions
from sparsight.training.two_views import TwoViewTrainer
from tests.digits import pack_digits

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

VIEWS = AugmentationOptions(crop_scale=(0.5, 1), horizontal_flip=0, rotation_degrees=15, greyscale=0, hue=0, blur=0)
PREPROCESSING = Preprocessing(image_size=16, resize="fit", mean=VIEWS.mean, std=VIEWS.std)
NETWORKS = {
    "simclr": lambda backbone: SimCLR(backbone, SimCLROptions(temperature=0.2)),
    "barlow_twins": lambda backbone: BarlowTwins(backbone, BarlowTwinsOptions(dimension=256)),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread: threads that share a core with other tests wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(method, backbone="resnet10_narrow"):
    torch.manual_seed(0)
    return NETWORKS[method](create_backbone(BackboneDescription(name=backbone, small_image_stem=False)))


@pytest.mark.parametrize(
    ("method", "lightlys"), [("simclr", NTXentLoss(0.2)), ("barlow_twins", BarlowTwinsLoss(0.005))]
)
@pytest.mark.parametrize("backbone", ["resnet10_narrow", "conv_blocks"])
def test_the_loss_is_lightlys_between_both_views(method, lightlys, backbone):
    network = build(method, backbone)
    views = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    loss, projections = network(*views, start=0, count=8)
    first, second = (network.head(network.backbone(view)) for view in views)
    torch.testing.assert_close(loss, lightlys(first, second))
    torch.testing.assert_close(projections[:, 1], torch.nn.functional.normalize(second.detach(), dim=1))
    assert projections.shape[:2] == (8, 2)


def test_projections_that_tell_nothing_cost_simclr_ln_of_all_other_views():
    assert build("simclr").loss(torch.ones(8, 4), torch.ones(8, 4)).item() == pytest.approx(math.log(15))


@pytest.mark.parametrize(("method", "rate"), [("simclr", 0.06), ("barlow_twins", 0.003)])
def test_pre_training_makes_neighbours_of_alike_images(method, rate, tmp_path):
    images = PackedImages(pack_digits(tmp_path / "images", 500, 300))
    training = TwoViewTrainer(
        build(method),
        images,
        images.positions("train"),
        [Augmentation(VIEWS)] * 2,
        PretrainingOptions(epochs=6, batch_size=32, warmup_epochs=1, learning_rate=rate),
        device=torch.device("cpu"),
        precision=torch.float32,
    )
    probe = KnnProbe(images, PREPROCESSING)
    untrained = probe(training.network.backbone)["knn_accuracy"]
    training.fit(tmp_path, probe=probe, report=lambda record: None)
    assert training.history[-1].probe["knn_accuracy"] > untrained + 0.04
    assert training.history[-1].loss < training.history[0].loss


@pytest.mark.parametrize("step", [train_simclr, train_barlow_twins])
def test_the_steps_make_a_model_and_register_it(step, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    chosen = step.Arguments(
        images=pack_digits(tmp_path / "images", 32, 8),
        model=tmp_path / "model",
        backbone="resnet10_narrow",
        epochs=1,
        batch_size=16,
        dimension=32,
    )
    step.main(chosen)
    assert f"Registered {chosen.model_name}/1" in capsys.readouterr().out
    _, description = load_backbone(tmp_path / "model")
    assert description.hyperparameters["method"] == chosen.method
    assert "loss tells how" in (tmp_path / "model" / "report" / "index.html").read_text()


def test_options_out_of_range_are_refused():
    backbone = create_backbone(BackboneDescription(name="resnet10_narrow", small_image_stem=False))
    with pytest.raises(SparsightError, match="temperature must be more than 0"):
        SimCLR(backbone, SimCLROptions(temperature=0))
    with pytest.raises(SparsightError, match="dimension 2 or more"):
        BarlowTwins(backbone, BarlowTwinsOptions(dimension=1))
