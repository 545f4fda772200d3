"""The main job from end to end, tiny: photos in the stores, pre-training, four classifiers, their comparison."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparsight.data.artefact import read_manifest
from sparsight.data.samples import load_digits
from sparsight.local.records import all_runs
from sparsight.stores.models import fetch_model

RECOGNISE = Path(__file__).parents[2] / "pipelines" / "recognise.yml"
SIZE = {
    "containers": "digits",
    "train_ratio": "0.75",
    "valid_ratio": "0.25",
    "test_ratio": "0",
    "image_size": "16",
    "backbone": "resnet10_narrow",
    "pretraining_epochs": "2",
    "pretraining_batch_size": "64",
    "queue_size": "128",
    "classifier_epochs": "6",
    "model_name": "recognise-test",
}
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"


def recognise(root: Path) -> subprocess.CompletedProcess[str]:
    settings = [f"--set={name}={value}" for name, value in SIZE.items()]
    return subprocess.run(
        [sys.executable, "-c", ENTRY, str(root), "run", str(RECOGNISE), *settings],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("project")


def test_recognise_from_photos_to_a_comparison(service_environment, root):
    load_digits(limit=500, labelled=200, test=100)
    done = recognise(root)
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(all_runs(root / "runs"))
    comparison = run.path / "compare/outputs/comparison"
    content = json.loads((comparison / "comparison.json").read_text())
    assert set(content["models"]) == {"pretrained", "pretrained_oversampled", "scratch", "random_features"}
    assert {model["images"] for model in content["models"].values()} == {100}
    assert (comparison / "summary.txt").read_text().strip() in done.stdout
    assert str(Path("compare/outputs/comparison/index.html")) in done.stdout
    pretrained_on = read_manifest(run.path / "all_images/outputs/images", "images").counts["images"]
    assert pretrained_on == 400
    assert (fetch_model("recognise-test@latest", root / "fetched") / "model.json").is_file()


def test_run_again_it_reuses_all_but_the_queries(service_environment, root):
    done = recognise(root)
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(all_runs(root / "runs"))
    statuses = {name: run.read_step(name).status for name in run.read().steps}
    ran_again = {name for name, status in statuses.items() if status != "reused"}
    assert ran_again == {"all_photos", "labelled_photos"}
