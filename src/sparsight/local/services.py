"""Starts, stops and finds the local services, all on 127.0.0.1: stores, MLflow, Label Studio, optuna-dashboard."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sparsight.errors import SparsightError
from sparsight.local import label_studio, optuna_dashboard
from sparsight.local.processes import HOST, file_lock, resident_bytes
from sparsight.local.servers import SERVERS, USUAL, account_key
from sparsight.local.service_records import Service, Services, read_services, stop, write_services
from sparsight.local.service_starter import Starter
from sparsight.stores.studies import URL_VARIABLE

__all__ = [
    "USER",
    "Service",
    "ServiceStatus",
    "Services",
    "default_home",
    "down",
    "environment",
    "running_services",
    "status",
    "up",
]

USER = "user"  # owner of the services that stay until `services down`


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """How a service is doing.

    Args:
        name: `azurite`, `cosmos`, `mlflow`, `label-studio` or `optuna-dashboard`.
        state: `healthy`; `silent` (runs, does not answer); `dead` (started to stay, but ended); `stopped`.
        url: the address its clients use; empty if it never ran.
        log: its log file.
        pid: its process, if it runs.
        memory: bytes in RAM.
        owner: `user`, or the run with which it stops.
        note: what people must know to use it by hand; empty unless it is healthy.
    """

    name: str
    state: str
    url: str
    log: Path
    pid: int | None
    memory: int
    owner: str
    note: str = ""


def default_home() -> Path:
    """Return the services' folder: SPARSIGHT_SERVICES_HOME, or `.sparsight/services` in this repository."""
    if chosen := os.environ.get("SPARSIGHT_SERVICES_HOME"):
        return Path(chosen).expanduser().resolve()
    return Path(__file__).resolve().parents[3] / ".sparsight" / "services"


def up(
    home: Path | None = None,
    *,
    only: Iterable[str] | None = None,
    owner: str = USER,
    ports: Mapping[str, int] | None = None,
) -> Services:
    """Start the services that do not run yet and wait until all answer; healthy ones are left alone.

    They stay after this process ends, until `down`.

    Args:
        home: the services' folder; `default_home()` if not given.
        only: names of the services wanted; the usual three, if not given.
        owner: who they belong to.
        ports: fixed ports by service name; the others get the one they had before, or a free one.

    Raises:
        SparsightError: a fixed port is taken, Node.js or a package is missing, a service dies or never answers.
    """
    folder = _prepared(home)
    with _state_lock(folder):
        starter = Starter(folder, owner=owner, outlive=True)
        try:
            return starter.ensure(_names(only, USUAL), ports or {})
        finally:
            starter.close()


@contextmanager
def running_services(home: Path | None = None, *, only: Iterable[str] | None = None) -> Iterator[Services]:
    """Have the services for the length of a block: the running ones, or new ones that end with it.

    What the block started is stopped when it ends and no other run uses it by then, also when this process is killed.

    Raises:
        SparsightError: as `up`.
    """
    folder = _prepared(home)
    starter = Starter(folder, owner=f"run of process {os.getpid()}", outlive=False)
    try:
        with _in_use(folder):
            with _state_lock(folder):
                services = starter.ensure(_names(only, USUAL), {})
            yield services
    finally:
        starter.close()


def down(home: Path | None = None, *, only: Iterable[str] | None = None) -> list[str]:
    """Stop the services, whoever started them; returns the names of those that ran. Their data stay."""
    folder = _prepared(home)
    with _state_lock(folder):
        services = read_services(folder)
        running = [
            service for name in _names(only, SERVERS) if (service := services.by_name.get(name)) and service.runs
        ]
        stopped = {service.name: stop(service) for service in running}
        write_services(Services(folder, {**services.by_name, **stopped}))
    return [service.name for service in running]


def status(home: Path | None = None) -> list[ServiceStatus]:
    """Tell how each service is doing, also those that never ran."""
    folder = home or default_home()
    services = read_services(folder)
    return [_status(folder, name, services.by_name.get(name)) for name in SERVERS]


def environment(services: Services) -> dict[str, str]:
    """Return the variables by which steps find the services, the keys among them. Never log them."""
    variables: dict[str, str] = {}
    if azurite := services.by_name.get("azurite"):
        variables["SPARSIGHT_BLOB_ENDPOINT"] = azurite.url
        variables["SPARSIGHT_BLOB_KEY"] = account_key(azurite.data)
    if cosmos := services.by_name.get("cosmos"):
        variables["SPARSIGHT_COSMOS_ENDPOINT"] = cosmos.url
        variables["SPARSIGHT_COSMOS_DATABASE"] = os.environ.get("SPARSIGHT_COSMOS_DATABASE") or "sparsight"
        variables["SPARSIGHT_COSMOS_KEY"] = account_key(cosmos.data)
    if mlflow := services.by_name.get("mlflow"):
        variables["MLFLOW_TRACKING_URI"] = mlflow.url
    if studio := services.by_name.get("label-studio"):
        variables["SPARSIGHT_LABEL_STUDIO_URL"] = studio.url
        variables["SPARSIGHT_LABEL_STUDIO_TOKEN"] = label_studio.token(studio.data)
    if dashboard := services.by_name.get("optuna-dashboard"):
        variables[URL_VARIABLE] = optuna_dashboard.storage_url(dashboard.data)
    return variables | _past_proxies()


def _past_proxies() -> dict[str, str]:
    """Where the user's network has a proxy, keep what stays on this machine away from it."""
    if not any(name.lower() in {"http_proxy", "https_proxy", "all_proxy"} for name in os.environ):
        return {}
    given = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    exceptions = ",".join([*filter(None, [given]), HOST, "localhost"])
    return {"NO_PROXY": exceptions, "no_proxy": exceptions}


def _names(only: Iterable[str] | None, by_default: Iterable[str]) -> list[str]:
    wanted = list(by_default if only is None else only)
    if unknown := [name for name in wanted if name not in SERVERS]:
        raise SparsightError(f"There is no service {unknown[0]!r}; there are {', '.join(SERVERS)}.")
    return wanted


def _prepared(home: Path | None) -> Path:
    folder = (home or default_home()).resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _status(home: Path, name: str, service: Service | None) -> ServiceStatus:
    if service is None or service.pid is None or not service.runs:
        unasked = service is not None and service.pid is not None and service.owner == USER
        state = "dead" if unasked else "stopped"
        url, owner = (service.url, service.owner) if service else ("", "")
        log = home / f"{name}.log"
        return ServiceStatus(name=name, state=state, url=url, log=log, pid=None, memory=0, owner=owner)
    healthy = service.healthy
    return ServiceStatus(
        name=name,
        state="healthy" if healthy else "silent",
        url=service.url,
        log=service.log,
        pid=service.pid,
        memory=resident_bytes(service.pid),
        owner=service.owner,
        note=SERVERS[name].note(service.data) if healthy else "",
    )


@contextmanager
def _state_lock(home: Path) -> Iterator[None]:
    patience = max(server.patience for server in SERVERS.values())
    with file_lock(
        home / "state.lock", patience=patience, what="another `services` command or run that is starting the services"
    ):
        yield


@contextmanager
def _in_use(home: Path) -> Iterator[None]:
    with file_lock(home / "in-use.lock", shared=True, what="the services of a run that ended to stop"):
        yield
