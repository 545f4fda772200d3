"""Studies: where they are kept, and what samplers and pruners do with them."""

import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from sparsight.errors import SparsightError
from sparsight.local.processes import free_ports
from sparsight.stores.studies import SECRET_VARIABLE, URL_VARIABLE, StudyStorage
from sparsight.tuning.results import LEAST_FOR_IMPORTANCE, importances
from sparsight.tuning.searching import best_number, make_pruner, make_sampler, open_study, tell

SAMPLERS = ("tpe", "gp", "random", "qmc", "brute_force")


def study_of(storage: Any = None, direction: Any = "minimise", pruner: str = "none", **tuned: Any) -> optuna.Study:
    whole = {"metric": "loss", **tuned}
    return open_study(storage or InMemoryStorage(), "study", direction, make_pruner(pruner, 2, 1), whole)


def run(study: optuna.Study, sampler: str, trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """Run trials of a bowl whose lowest point is at 3, with a second input that doesn't matter."""
    for _ in range(trials):
        study.sampler = make_sampler(sampler, seed, len(study.trials), 3)
        trial = study.ask()
        x, y = trial.suggest_int("x", 0, 9), trial.suggest_categorical("y", ["a", "b"])
        if not tell(study, trial.number, TrialState.COMPLETE, (x - 3) ** 2 + (0.1 if y == "b" else 0)):
            break
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(sampler: str, tmp_path: Path) -> None:
    whole = run(study_of(), sampler, 9)
    storage = StudyStorage.from_environment(tmp_path / "study.db", {})
    with storage.opened() as before:
        run(study_of(before), sampler, 4)
    with storage.opened() as after:
        assert run(study_of(after), sampler, 5) == whole
    assert run(study_of(), sampler, 9, seed=1) != whole or sampler == "gp"


def test_tpe_learns() -> None:
    study = study_of()
    run(study, "tpe", 40)
    late = [trial.params["x"] for trial in study.trials[-20:]]
    assert sum(abs(x - 3) <= 1 for x in late) >= 12  # chance would have 6 of 20


def test_brute_force_tries_everything_once() -> None:
    tried = run(study_of(), "brute_force", 30)
    assert len(tried) == len({(each["x"], each["y"]) for each in tried}) == 20


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband"])
def test_pruners_end_what_lags_behind(pruner: str) -> None:
    study = study_of(direction="maximise", pruner=pruner)
    for number in range(12):
        study.sampler = make_sampler("random", 0, number, 2)
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        for epoch in range(1, 28):
            trial.report((number < 4) * epoch / 27, epoch)
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(number < 4))
    states = [trial.state for trial in study.trials]
    assert states[0] == TrialState.COMPLETE
    assert TrialState.PRUNED in states[4:]
    assert best_number(study) in range(4)


def test_none_prunes_nothing() -> None:
    study = study_of(pruner="none")
    run(study, "random", 3)
    trial = study.ask()
    trial.report(1e9, 1)
    assert not trial.should_prune()


def test_a_study_of_something_else_is_refused() -> None:
    storage = InMemoryStorage()
    study_of(storage, metric="loss", step="train_moco")
    assert study_of(storage, metric="loss", step="train_moco").study_name == "study"
    with pytest.raises(SparsightError, match="The study 'study' is of something else: it differs in metric, direction"):
        study_of(storage, "maximise", metric="knn_accuracy", step="train_moco")


def test_importances_tell_what_matters_where_there_are_enough_trials() -> None:
    study = study_of()
    run(study, "random", LEAST_FOR_IMPORTANCE - 1)
    assert importances(study) == {}
    run(study, "random", 50)
    found = importances(study)
    assert next(iter(found)) == "x"
    assert math.isclose(sum(found.values()), 1)


def test_no_trial_that_ended_is_no_best() -> None:
    assert best_number(study_of()) is None


# Where they are kept


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("secretpassword", "is no database's URL"),
        ("mysql://user:secretpassword@127.0.0.1/x", "a database of kind 'mysql'"),
        (
            "postgresql://user:secretpassword@db.example.com/x",
            "names db.example.com, to which data would go unencrypted",
        ),
        ("postgresql://u:secretpassword@db.example.com/x?sslmode=prefer", "would go unencrypted"),
        ("sqlite:////no/such/folder/secretpassword.db", "can't be opened: unable to open database file"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_its_password(url: str, message: str) -> None:
    storage = StudyStorage.from_environment(Path("x"), {URL_VARIABLE: url})
    with pytest.raises(SparsightError, match=message) as caught, storage.opened():
        pass
    assert url.startswith("sqlite") or "secretpassword" not in str(caught.value)
    assert "secretpassword" not in repr(storage)


def test_the_address_of_a_secret_must_be_a_vaults() -> None:
    with pytest.raises(SparsightError, match="TUNING_STORAGE_SECRET is not the address of a secret in a key vault"):
        StudyStorage.from_environment(Path("x"), {SECRET_VARIABLE: "https://example.com/secrets/x"})


def test_a_file_is_used_where_nothing_else_is_said(tmp_path: Path) -> None:
    storage = StudyStorage.from_environment(tmp_path / "study.db", {})
    assert not storage.shared
    with storage.opened() as opened:
        study_of(opened)
    assert (tmp_path / "study.db").is_file()


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A PostgreSQL server with a password, on loopback; needs Debian's package."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if not programs or (as_user and not shutil.which("runuser")):
        pytest.skip("needs PostgreSQL")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:  # short and open to its user, unlike pytest's
        data, password = Path(folder) / "data", Path(folder) / "password"
        password.write_text("word of honour")
        for path in (Path(folder), password):
            shutil.chown(path, "postgres") if as_user else None
        make = [programs[-1] / "initdb", "-D", data, "-U", "tuner", "-A", "scram-sha-256", f"--pwfile={password}"]
        subprocess.run([*as_user, *map(str, make)], check=True, capture_output=True, cwd=folder)
        serve = [programs[-1] / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", data, "-c", "fsync=off"]
        with subprocess.Popen([*as_user, *map(str, serve)], stderr=subprocess.DEVNULL, cwd=folder) as server:
            try:
                ask = [str(programs[-1] / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
                while subprocess.run(ask, check=False, capture_output=True).returncode:
                    assert server.poll() is None
                    time.sleep(0.1)
                yield f"postgresql://tuner:word%20of%20honour@127.0.0.1:{port}/postgres"
            finally:
                server.terminate()


def test_studies_are_kept_in_postgresql(postgresql: str) -> None:
    storage = StudyStorage.from_environment(Path("x"), {URL_VARIABLE: postgresql})
    assert storage.shared
    with storage.opened() as opened:
        first = run(study_of(opened), "tpe", 4)
    with storage.opened() as opened:
        assert run(study_of(opened), "tpe", 1)[:4] == first
    wrong = StudyStorage.from_environment(Path("x"), {URL_VARIABLE: postgresql.replace("word", "sword")})
    with pytest.raises(SparsightError, match="password authentication failed") as caught, wrong.opened():
        pass
    assert "honour" not in str(caught.value)
