"""What every test shares: a clean environment, and the real local services in a folder of their own.

Fixtures:
    services: the running Azurite, Cosmos DB server and MLflow of this test session (started on first use, stopped with
        the session, also when it is killed). Give each test names of its own (database, container, experiment): the
        servers are shared by all tests.
    service_environment: the same services, with the variables by which steps find them set for one test.
    label_studio: the running Label Studio; give each test a project of its own.
    labelling_environment: the same as service_environment, Label Studio included.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sparsight.local.services import Service, Services, environment, running_services

# At import, before any test module can import a library that reads its settings once.
for _name in [name for name in os.environ if name.lstrip("_").startswith(("MLFLOW_", "SPARSIGHT_", "AZUREML_"))]:
    del os.environ[_name]
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
# Networks this small gain nothing from a second thread, and lose a lot where a server of ours wants the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says something about the machine, not about the code.
settings.register_profile("sparsight", deadline=None)
settings.load_profile("sparsight")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="take the messages sent now as the golden ones")


@pytest.fixture(scope="session", autouse=True)
def services_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of this session's services; the developer's own are never touched, by subprocesses neither."""
    home = tmp_path_factory.mktemp("services")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_SERVICES_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def services(services_home: Path) -> Iterator[Services]:
    """The session's running services; `services["azurite"].url`, `environment(services)`."""
    with running_services(services_home) as running:
        yield running


@pytest.fixture
def service_environment(services: Services, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The services, with SPARSIGHT_* and MLFLOW_TRACKING_URI pointing at them for one test."""
    for name, value in environment(services).items():
        monkeypatch.setenv(name, value)
    return services


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The running Label Studio of all this session's workers, whose start takes ten seconds and 350 MB."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "label-studio"
    with running_services(home, only=["label-studio"]) as running:
        yield running["label-studio"]


@pytest.fixture
def labelling_environment(
    service_environment: Services, label_studio: Service, monkeypatch: pytest.MonkeyPatch
) -> Services:
    """All services, Label Studio among them, with SPARSIGHT_* and MLFLOW_TRACKING_URI pointing at them for one test."""
    services = Services(service_environment.home, {**service_environment.by_name, "label-studio": label_studio})
    for name, value in environment(services).items():
        monkeypatch.setenv(name, value)
    return services
