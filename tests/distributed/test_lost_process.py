"""A process of pre-training that is killed: the others go back to the last commit, another takes its place."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from sklearn.datasets import load_digits

from sparsight.models.classifier import load_backbone
from tests.packed_images import write_packed_images

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

PROGRAM = Path(__file__).with_name("fatal_pretraining.py")
COUNT, EPOCHS, COMMIT_EVERY = 300, 3, 4
STEPS = COUNT // 32
OPTIONS = {"backbone": "resnet10_narrow", "small_image_stem": "off", "batch_size": 16, "queue_size": 256}
OPTIONS |= {"epochs": EPOCHS, "commit_every": COMMIT_EVERY, "precision": "float32", "processes": 2, "probe_every": 1}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    content = load_digits()
    pixels = (content.images[: COUNT + 60] * 15.9).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    images = np.repeat(pixels[..., None], 3, axis=3)
    labels = [str(label) for label in content.target[: COUNT + 60]]
    folder = tmp_path_factory.mktemp("digits") / "images"
    return write_packed_images(folder, images, labels, ["train"] * COUNT + ["valid"] * 60, shards=3)


@pytest.fixture(scope="module")
def pretrain(horovod, digits, tmp_path_factory):
    """`pretrain(name, fatal)`: pre-train and register `name`; what was printed, and the history of epochs."""
    root = tmp_path_factory.mktemp("lost")
    tracking = f"sqlite:///{root / 'mlflow.db'}"

    def start(name, fatal=""):
        mark = root / f"fatal-{name}"
        mark.touch()
        options = {**OPTIONS, "images": digits, "probe_images": digits, "model": root / name, "model_name": name}
        words = [sys.executable, PROGRAM, *(word for each, value in options.items() for word in (f"--{each}", value))]
        launcher = [sys.executable, "-m", "sparsight.local.horovod_launcher", "--processes", "2", "--shell"]
        variables = {**horovod.environment(), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": tracking}
        done = subprocess.run(
            [*launcher, f"exec {shlex.join(map(str, words))}"],
            env={**variables, "FATAL": f"{mark}:{fatal}"} if fatal else variables,
            capture_output=True,
            text=True,
            timeout=240,
            cwd=root,
        )
        assert done.returncode == 0, done.stderr
        assert mark.exists() == (not fatal), "somebody was killed"
        assert load_backbone(root / name)[1].hyperparameters["processes"] == 2
        history = json.loads((root / name / "report" / "metrics.json").read_text())["history"]
        _check_tracked(mlflow.MlflowClient(tracking), name, history)
        return done, history

    return start


def _check_tracked(client, name, history):
    """One run, finished, with every epoch in it once, and the model registered once; whoever led at the end."""
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert client.get_run(version.run_id).info.status == "FINISHED"
    tracked = client.get_metric_history(version.run_id, "loss")
    assert [each.step for each in tracked] == list(range(1, EPOCHS + 1))
    assert [each.value for each in tracked] == pytest.approx([record["loss"] for record in history])


@pytest.fixture(scope="module")
def undisturbed(pretrain):
    return pretrain("undisturbed")[1]


@pytest.mark.parametrize("local_rank", [1, 0], ids=["another", "leader"])
def test_it_is_replaced_and_the_steps_since_the_commit_are_done_again(pretrain, undisturbed, local_rank):
    # In the second epoch: 6 of its 9 steps are done, 4 of them committed.
    done, history = pretrain(f"cut-{local_rank}", f"{local_rank}:{STEPS + 7}")
    assert f"worker-{local_rank} was killed by signal 9; worker-2 takes its place" in done.stderr
    assert done.stderr.count("going back to the last commit") == 1
    assert re.findall(r"Going on in epoch (\d) after step (\d+)", done.stdout) == [("2", "4")]
    for record, expected in zip(history, undisturbed, strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-3)
        assert record["knn_accuracy"] == pytest.approx(expected["knn_accuracy"], abs=0.05)


def test_a_leader_lost_while_it_writes_the_model_leaves_that_to_the_next(pretrain, undisturbed):
    done, history = pretrain("cut-late", "0:finish")
    assert "worker-0 was killed by signal 9; worker-2 takes its place" in done.stderr
    assert [record["loss"] for record in history] == pytest.approx([each["loss"] for each in undisturbed], abs=1e-3)


def test_a_leader_lost_before_the_first_step_leaves_everything_to_the_next(pretrain, undisturbed):
    _, history = pretrain("cut-early", "0:1")
    assert [record["loss"] for record in history] == pytest.approx([each["loss"] for each in undisturbed], abs=1e-3)
