"""`--set processes=2`, from the command line to the registered model: steps in two processes, tracked as one."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from sparsight.data.artefact import read_manifest
from sparsight.data.samples import load_digits
from sparsight.local.records import all_runs

PIPELINES = Path(__file__).parents[2] / "pipelines"
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"
SIZE = {"containers": "digits", "image_size": 16, "epochs": 2, "processes": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


def run(root, horovod, pipeline, **settings):
    options = [f"--set={name}={value}" for name, value in {**SIZE, **settings}.items()]
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, str(root), "run", str(PIPELINES / f"{pipeline}.yml"), *options],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
        env=horovod.environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(all_runs(root / "runs"))


def test_a_run_in_two_processes_trains_tracks_and_registers_once(service_environment, horovod, root):
    load_digits(limit=300, labelled=150, test=60)
    done = run(root, horovod, "pretrain", backbone="resnet10_narrow", batch_size=32, queue_size=128, model_name="two")
    told = json.loads((done.step("pretrain") / "inputs.json").read_text())
    assert told["processes"] == 2
    assert "2 processes" in done.log("pretrain").read_text()
    client = mlflow.MlflowClient()
    (version,) = client.search_model_versions("name = 'two'")
    tracked = client.get_run(version.run_id)
    assert (tracked.info.status, tracked.data.params["processes"]) == ("FINISHED", "2")
    assert len(client.get_metric_history(version.run_id, "loss")) == 2

    done = run(root, horovod, "classify", base_model="two@latest", model_name="two-named")
    (version,) = client.search_model_versions("name = 'two-named'")
    tracked = client.get_run(version.run_id)
    assert (tracked.info.status, tracked.data.params["processes"]) == ("FINISHED", "2")
    assert len(client.get_metric_history(version.run_id, "train_loss")) == 2
    assert read_manifest(done.step("classify") / "outputs" / "model", "model").counts["epochs"] == 2
