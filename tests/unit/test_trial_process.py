"""A trial's share of the machine, what it is told and not told, and what is read from its log and its MLflow run."""

import json
import os
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest

from sparsight.stores.studies import URL_VARIABLE
from sparsight.tuning.tracked import TrackedTrials
from sparsight.tuning.trial_process import Place, reason_in, share_of, start_trial, visible_gpus

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


def test_trials_side_by_side_take_gpus_in_turn_and_share_the_cores() -> None:
    shares = [share_of(slot, 4, {}, ["2", "5"]) for slot in range(4)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["2", "5", "2", "5"]
    assert {share["OMP_NUM_THREADS"] for share in shares} == {str(max(1, (os.cpu_count() or 1) // 4))}
    assert share_of(0, 1, {}, []) == {}
    assert share_of(0, 2, {"OMP_NUM_THREADS": "3"}, []) == {}


def test_gpus_are_those_that_this_process_may_use() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1,GPU-77"}) == ["1", "GPU-77"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("epoch 1\nerror: No memory.\nTake less.\n", "No memory.\nTake less."),
        ("error: first\nerror: last\n", "last"),
        ("Traceback\nKeyError: 'x'\n\n", "KeyError: 'x'"),
        ("", "it said nothing"),
    ],
)
def test_the_reason_is_what_a_step_said_last(tmp_path: Path, said: str, reason: str) -> None:
    (tmp_path / "log.txt").write_text(said)
    assert reason_in(tmp_path / "log.txt") == reason
    assert reason_in(tmp_path / "none.txt") == "it said nothing"


def test_a_trial_is_told_its_run_and_share_but_not_where_studies_are(tmp_path: Path) -> None:
    # Instead of the step, a module of this name in front of it tells what it was given.
    (tmp_path / "sparsight" / "steps").mkdir(parents=True)
    for folder in (tmp_path / "sparsight", tmp_path / "sparsight" / "steps"):
        (folder / "__init__.py").touch()
    script = "import json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    (tmp_path / "sparsight" / "steps" / "train_nothing.py").write_text(script)
    place = Place(folder=tmp_path / "it's 0")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), URL_VARIABLE: "postgresql://u:secret@h/d"}
    process = start_trial("train_nothing", {"flip": True, "rate": 1e-07}, place, "run-7", {"A": "b"}, environment)
    while (code := process.poll()) is None:
        time.sleep(0.05)
    process.end()
    assert code == 0
    flags, variables = json.loads(place.log.read_text())
    assert flags == ["--flip", "True", "--rate", "1e-07", "--model", str(place.model)]
    assert variables["MLFLOW_RUN_ID"] == "run-7"
    assert variables["A"] == "b"
    assert "secret" not in json.dumps(variables)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackedTrials:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    with mlflow.start_run() as parent:
        return TrackedTrials(parent.info.run_id, "knn_accuracy")


def log(run_id: str, name: str, values: dict[int, float]) -> None:
    for step, value in values.items():
        mlflow.MlflowClient().log_metric(run_id, name, value, step=step)


def test_a_trial_counts_at_the_epoch_whose_weights_are_kept(runs: TrackedTrials) -> None:
    run_id = runs.open(3, None)
    log(run_id, "knn_accuracy", {5: 0.5, 10: 0.8, 15: 0.9})
    assert runs.final(run_id) is None  # training goes on
    log(run_id, "kept_epoch", {0: 12})
    assert runs.final(run_id) == 0.8
    assert runs.values(run_id) == {5: 0.5, 10: 0.8, 15: 0.9}


def test_numbers_of_the_end_are_no_epochs(runs: TrackedTrials) -> None:
    run_id = runs.open(0, None)
    log(run_id, "loss", {1: 2.0, 2: 1.0})
    log(run_id, "test_macro_f1", {0: 0.99})
    log(run_id, "kept_epoch", {0: 2})
    assert TrackedTrials(runs.parent, "test_macro_f1").final(run_id) is None
    assert runs.others(run_id) == ["loss"]


def test_an_interrupted_trial_keeps_its_run_where_there_is_one(runs: TrackedTrials) -> None:
    with mlflow.start_run() as later:
        other = TrackedTrials(later.info.run_id, "loss")
    first = runs.open(1, None)
    assert other.open(1, first) == first
    assert tags(first)["mlflow.parentRunId"] == other.parent
    assert other.open(1, "0" * 32) not in {first, "0" * 32}
    other.end(first, "KILLED")
    assert mlflow.get_run(first).info.status == "KILLED"


def tags(run_id: str) -> dict[str, Any]:
    return dict(mlflow.get_run(run_id).data.tags)
