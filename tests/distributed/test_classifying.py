"""A classifier trained in two processes is the one that a single process would have trained."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.packed_images import write_packed_images

PROGRAM = Path(__file__).with_name("classifying.py")
COUNT = 150


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    content = load_digits()
    images = np.repeat((content.images[:COUNT] * 15.9).astype(np.uint8)[..., None], 3, axis=3).repeat(2, 1).repeat(2, 2)
    labels = [("few/0", "few/1", "many")[min(label, 2)] for label in content.target[:COUNT]]  # of very unequal sizes
    splits = ["train"] * 71 + ["valid"] * 40 + ["test"] * 39
    return write_packed_images(tmp_path_factory.mktemp("digits") / "images", images, labels, splits)


@pytest.fixture
def train(horovod, digits):
    """`train(processes, **options)`: what each process told, by rank."""

    def start(processes, **options):
        arguments = [str(processes), str(digits), json.dumps(options)]
        if processes == 1:
            command = [sys.executable, str(PROGRAM), *arguments]
            output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stderr
        else:
            output = horovod.run(PROGRAM, *arguments, processes=processes)
        told = [json.loads(line) for line in re.findall(r"told (\{.*\})", output)]
        return sorted(told, key=lambda each: each["rank"])

    return start


@pytest.mark.parametrize(
    "options",
    [
        {"freeze_backbone": True, "augmentation_passes": 2, "balance": "oversample"},
        {"freeze_backbone": False, "balance": "class_weights", "backbone_learning_rate_ratio": 1.0},
        {"freeze_backbone": False, "balance": "class_weights", "hierarchy": "per_parent"},
    ],
    ids=["frozen", "fine-tuned", "taxonomy"],
)
def test_two_processes_train_what_one_does(train, options):
    first, second = train(2, **options)
    (one,) = train(1, **options)
    assert first["weights"] == second["weights"]
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-4)
    assert first["scores"] == pytest.approx(one["scores"], abs=1e-3)
    assert (first["heard"], second["heard"]) == (4, 0), "the leader alone reports"
    assert (first["finished"], second["finished"]) == (1, 0), "and writes"
    assert second["run_id"] == "run of 0", "whoever takes over knows the leader's run"


def test_more_processes_than_a_batch_can_feed_are_refused(train):
    for told in train(2, freeze_backbone=False, batch_size=4):
        assert "make batches of 3, too few for 2 processes" in told["refused"]
