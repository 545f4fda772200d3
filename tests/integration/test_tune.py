"""Tuning, whole: real trials of a real step, killed and gone on with, pruned, broken, tracked, registered, reported."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import psutil
import pytest

from sparsight.data.artefact import read_manifest
from sparsight.errors import SparsightError
from sparsight.evaluation.stored import read_final_metrics
from sparsight.models.autoencoder_folder import read_autoencoder_model
from sparsight.steps.tune import Arguments, main
from sparsight.stores.lineage import Lineage
from sparsight.stores.studies import URL_VARIABLE, sqlite_url
from tests.digits import pack_digits

# MLflow's own SQL store does it; the message is all that tells it apart.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

COMMON = "design: reference\nbinary: false\ncell: 4\nchannels: 4\nfilters: 2\nepochs: 15\n"
SPACE = (
    f"{COMMON}learning_rate: {{choice: [0.01, 0.0000001]}}\n"
    "batch_size: {choice: [16, 1000], when: {learning_rate: 0.01}}\n"
)
GOOD = {"learning_rate": 0.01, "batch_size": 16}
SEED = 2
"""With which brute force tries the good combination first."""


def arguments(folder: Path, images: Path, **changes: Any) -> Arguments:
    usual = Arguments(
        images=images,
        search_space=folder / "space.yml",
        model=folder / "model",
        tuning=folder / "tuning",
        step="train_autoencoder",
        metric="valid_loss",
        direction="minimise",
        trials=1,
        parallel=2,
        sampler="brute_force",
        pruner="median",
        startup_trials=1,
        warmup_epochs=2,
        study="digits",
        model_name="tuned-digits",
        seed=SEED,
    )
    return dataclasses.replace(usual, **changes)


def command(chosen: Arguments) -> list[str]:
    given = {name: value for name, value in vars(chosen).items() if value is not None}
    return [
        sys.executable,
        "-m",
        "sparsight.steps.tune",
        *(w for name in given for w in (f"--{name}", str(given[name]))),
    ]


def epochs_of(database: Path) -> list[int]:
    """The epochs that the study's first trial has reported so far."""
    try:
        study = optuna.load_study(study_name="digits", storage=sqlite_url(database))
        return [*study.trials[0].intermediate_values]
    except Exception:  # it isn't there yet, or half of it
        return []


def trials_of(folder: Path) -> list[psutil.Process]:
    return [
        each
        for each in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(each.info["cmdline"] or ()) and "train_autoencoder" in " ".join(each.info["cmdline"])
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("digits") / "images", 64, 32)


@pytest.fixture(scope="module")
def tuned(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A study whose first tuning was killed and gone on with, and then another tuning with the same study."""
    folder = tmp_path_factory.mktemp("tune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "tuning")
        patch.setenv(URL_VARIABLE, sqlite_url(folder / "studies.db"))
        patch.chdir(folder)
        (folder / "first").mkdir()
        (folder / "second").mkdir()
        for each in ("first", "second"):
            (folder / each / "space.yml").write_text(SPACE)
        first = arguments(folder / "first", images)
        with (
            (folder / "log.txt").open("w") as log,
            subprocess.Popen(command(first), stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            while len(epochs_of(folder / "studies.db")) < 3:
                assert process.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 30
        while trials_of(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = trials_of(folder)
        trial_log = folder / "first" / "tuning.partial" / "work" / "trials" / "0" / "log.txt"
        main(first)
        main(arguments(folder / "second", images, trials=3))
        yield SimpleNamespace(folder=folder, left=left, trial_log=trial_log)


def trials(tuned: SimpleNamespace, which: str) -> list[dict[str, Any]]:
    return json.loads((tuned.folder / which / "tuning" / "trials.json").read_text())["trials"]


def runs() -> dict[str, Any]:
    (experiment,) = [each for each in mlflow.search_experiments() if each.name == "tuning"]
    return {run.info.run_id: run for run in mlflow.MlflowClient().search_runs([experiment.experiment_id])}


def test_a_killed_tuning_leaves_no_process_and_goes_on_with_its_trial(tuned: SimpleNamespace) -> None:
    assert tuned.left == []
    (trial,) = trials(tuned, "first")
    assert trial["inputs"] == GOOD
    assert trial["state"] == "complete"
    assert sorted(map(int, trial["epochs"])) == [*range(1, len(trial["epochs"]) + 1)]
    assert trial["value"] == min(trial["epochs"].values())


def test_the_same_study_goes_on_with_broken_and_pruned_trials(tuned: SimpleNamespace) -> None:
    all_trials = trials(tuned, "second")
    found = {tuple(trial["inputs"][name] for name in GOOD if name in trial["inputs"]): trial for trial in all_trials}
    assert len(found) == 3
    assert found[0.01, 16]["state"] == "complete"
    assert found[0.01, 1000]["state"] == "fail"
    assert "64 images to train on, fewer than one batch of 1000" in found[0.01, 1000]["failure"]
    lagging = found[(0.0000001,)]
    assert lagging["state"] == "pruned"
    assert 2 <= len(lagging["epochs"]) < 15


@pytest.mark.parametrize("which", ["first", "second"])
def test_the_best_model_is_handed_over_and_registered(tuned: SimpleNamespace, which: str) -> None:
    model = read_autoencoder_model(tuned.folder / which / "model")
    assert {name: model.hyperparameters[name] for name in GOOD} == GOOD
    version = mlflow.MlflowClient().get_model_version("tuned-digits", "1" if which == "first" else "2")
    lineage = Lineage.of_tags(version.tags)
    assert lineage.step == "train_autoencoder"
    assert lineage.metrics == pytest.approx(read_final_metrics(tuned.folder / which / "model" / "report", "its"))
    assert runs()[lineage.run_id].data.tags["sparsight.trial"] == "0"
    assert len(mlflow.MlflowClient().search_model_versions("name='tuned-digits'")) == 2


def test_each_trial_is_an_mlflow_run_below_its_tunings(tuned: SimpleNamespace) -> None:
    found = runs()
    children = [run for run in found.values() if "sparsight.trial" in run.data.tags]
    parents = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert {found[parent].data.tags["sparsight.step"] for parent in parents} == {"tune"}
    states = {(run.data.tags["sparsight.trial"], run.info.status) for run in children}
    killed = {str(trial["number"]) for trial in trials(tuned, "second") if trial["state"] == "pruned"}
    failed = {str(trial["number"]) for trial in trials(tuned, "second") if trial["state"] == "fail"}
    assert states == {("0", "FINISHED"), *((each, "KILLED") for each in killed), *((each, "FAILED") for each in failed)}
    best = next(run for run in children if run.data.tags["sparsight.trial"] == "0")
    assert best.info.run_name == "trial 0"
    assert float(best.data.params["learning_rate"]) == 0.01
    assert found[best.data.tags["mlflow.parentRunId"]].data.metrics["best_valid_loss"] > 0


def test_the_artefact_tells_it_all_and_holds_nothing_else(tuned: SimpleNamespace) -> None:
    folder = tuned.folder / "second" / "tuning"
    assert read_manifest(folder, "tuning").counts == {"trials": 3, "pruned": 1, "failed": 1}
    assert {path.name for path in folder.iterdir()} == {
        *("manifest.json", "trials.json", "summary.txt", "index.html", "hiplot.html", "history.png", "epochs.png")
    }
    assert "Trial 0 of 3 is the best: valid_loss" in (folder / "summary.txt").read_text()
    page = (folder / "index.html").read_text()
    assert "tuned-digits/2" in page
    assert "pruned after epoch" in page
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert not list((tuned.folder / "second").glob("*.partial"))


def test_trials_that_all_fail_end_the_tuning(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv(URL_VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pandas.py").write_text("raise ImportError('this installation is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the trials; this process has the real one already
    (tmp_path / "space.yml").write_text("seed: {int: [0, 9]}\n")
    with pytest.raises(SparsightError, match=r"The first 3 trials failed.*installation is broken") as caught:
        main(arguments(tmp_path, images, trials=9, parallel=3, study="new"))
    assert Path(caught.value.hint.removeprefix("All that it said: ")).is_file()
    assert "trial 0: failed" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "train_mocco"}, "no training step 'train_mocco'; there are train_autoencoder, "),
        ({"step": "train_classifier"}, r"line 1: design: train_classifier takes no such input"),
        (
            {"probe_images": Path("x")},
            "takes no probe_images; of folders it takes images, validation_images",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused_at_once(
    images: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "space.yml").write_text(SPACE)
    with pytest.raises(SparsightError, match=message):
        main(arguments(tmp_path, images, **changes))
    assert [path.name for path in tmp_path.iterdir()] == ["space.yml"]
