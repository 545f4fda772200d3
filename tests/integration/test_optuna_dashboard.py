"""The local optuna-dashboard: it shows the studies that tunings write, to this machine's own pages only."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import optuna
import psutil
import pytest

from sparsight.local.services import Services, environment, running_services
from sparsight.stores.studies import URL_VARIABLE, StudyStorage
from sparsight.tuning.searching import make_pruner, open_study


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with running_services(tmp_path_factory.mktemp("services"), only=["optuna-dashboard"]) as services:
        yield services


def ask(services: Services, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    address = urlsplit(services["optuna-dashboard"].url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    body = json.dumps({"study_name": "from elsewhere", "directions": ["minimize"]}) if method == "POST" else None
    try:
        connection.request(method, path, body=body, headers={"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_shows_what_a_tuning_writes(dashboard: Services) -> None:
    with StudyStorage.from_environment(Path("x"), environment(dashboard)).opened() as storage:
        study = open_study(storage, "digits", "maximise", make_pruner("none", 1, 0), {"metric": "loss"})
        trial = study.ask()
        trial.suggest_float("rate", 0, 1)
        study.tell(trial, 0.5)
        status, body = ask(dashboard, "GET", "/api/studies")
    assert status == 200
    assert [each["study_name"] for each in json.loads(body)["study_summaries"]] == ["digits"]
    assert ask(dashboard, "GET", "/dashboard")[0] == 200


def test_it_listens_on_this_machine_only(dashboard: Services) -> None:
    process = psutil.Process(dashboard["optuna-dashboard"].pid)
    assert {each.laddr.ip for each in process.net_connections() if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_pages_of_other_sites_are_refused(dashboard: Services) -> None:
    assert ask(dashboard, "GET", "/api/studies", Host="evil.example")[0] == 403
    assert ask(dashboard, "POST", "/api/studies", Origin="http://evil.example")[0] == 403
    assert ask(dashboard, "POST", "/api/studies", Origin="null")[0] == 403
    assert optuna.get_all_study_names(environment(dashboard)[URL_VARIABLE]) == ["digits"]


def test_a_database_of_the_users_own_comes_first(dashboard: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "sqlite:////mine.db")
    assert environment(dashboard)[URL_VARIABLE] == "sqlite:////mine.db"
