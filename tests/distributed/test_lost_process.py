"""A process of pre-training that is killed: the others go back to the last commit, another takes its place."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time

import mlflow
import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from sparsight.models.classifier import load_backbone
from sparsight.training.moco import CHECKPOINT
from tests.packed_images import write_packed_images

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

COUNT, EPOCHS, COMMIT_EVERY = 700, 3, 5
STEPS = COUNT // 32


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    pixels = (load_digits().images[:COUNT] * 15.9).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    images = np.repeat(pixels[..., None], 3, axis=3)
    folder = tmp_path_factory.mktemp("digits") / "images"
    return write_packed_images(folder, images, [""] * COUNT, ["train"] * COUNT, shards=3)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


class Step:
    """train_moco in two processes.

    Args:
        variables: its environment.
        digits: the images.
        model: where the model goes.
    """

    def __init__(self, variables, digits, model):
        self.model = model
        words = [sys.executable, "-m", "sparsight.steps.train_moco", "--images", digits, "--model", model]
        options = {"backbone": "resnet10_narrow", "small_image_stem": "off", "batch_size": 16, "queue_size": 256}
        options |= {"epochs": EPOCHS, "commit_every": COMMIT_EVERY, "model_name": model.name, "processes": 2}
        words += [word for name, value in options.items() for word in (f"--{name}", value)]
        launcher = [sys.executable, "-m", "sparsight.local.horovod_launcher", "--processes", "2", "--shell"]
        self.process = subprocess.Popen(
            [*launcher, f"exec {shlex.join(map(str, words))}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
            cwd=model.parent,
        )

    def kill(self, rank):
        """Kill the process of a rank in the middle of the second epoch."""
        checkpoint = self.model.with_name(f"{self.model.name}.partial") / CHECKPOINT
        while not checkpoint.exists() and self.process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.3)
        for each in psutil.Process(self.process.pid).children(recursive=True):
            if "-m" in each.cmdline() and each.environ().get("HOROVOD_RANK") == str(rank) and each.name() != "bash":
                each.send_signal(signal.SIGKILL)

    def end(self):
        out, err = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, err
        return out, err

    def losses(self):
        history = json.loads((self.model / "report" / "metrics.json").read_text())["history"]
        assert [record["epoch"] for record in history] == list(range(1, EPOCHS + 1))
        return [record["loss"] for record in history]


@pytest.fixture(scope="module")
def start(horovod, digits, tracking):
    variables = {**horovod.environment(), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": tracking}
    return lambda model: Step(variables, digits, model)


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    step = start(tmp_path_factory.mktemp("undisturbed") / "whole")
    step.end()
    return step.losses()


@pytest.mark.parametrize("rank", [1, 0], ids=["another", "leader"])
def test_a_killed_process_is_replaced_and_at_most_uncommitted_steps_are_done_again(
    start, undisturbed, tracking, tmp_path, rank
):
    step = start(tmp_path / f"cut{rank}")
    step.kill(rank)
    out, err = step.end()
    assert re.search(rf"worker-{rank} was killed by signal 9; worker-2 takes its place", err)
    assert f"rank {1 - rank}: going back to the last commit" in err
    resumed = re.findall(r"Going on in epoch 2 after step (\d+)", out)
    assert all(int(number) % COMMIT_EVERY == 0 and int(number) < STEPS for number in resumed)
    assert step.losses() == pytest.approx(undisturbed, abs=0.02)
    assert load_backbone(step.model)[1].hyperparameters["processes"] == 2
    _check_tracked(tracking, step)


def _check_tracked(tracking, step):
    """One run, finished, with every epoch in it, and the model registered once; whoever led at the end."""
    client = mlflow.MlflowClient(tracking)
    (version,) = client.search_model_versions(f"name = '{step.model.name}'")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    tracked = client.get_metric_history(version.run_id, "loss")
    assert sorted({each.step for each in tracked}) == list(range(1, EPOCHS + 1))
    assert run.data.metrics["final_loss"] == pytest.approx(step.losses()[-1])
