"""Starts, stops and finds the local services: Azurite, a Cosmos DB server and MLflow, all on 127.0.0.1."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sparsight.errors import SparsightError
from sparsight.local.processes import (
    Supervisor,
    file_lock,
    free_ports,
    is_running,
    last_lines,
    port_is_free,
    port_user,
    resident_bytes,
    terminate_group,
    write_private,
)
from sparsight.local.servers import SERVERS, account_key

USER = "user"  # owner of the services that stay until `services down`
_STATE = "services.json"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Service:
    """A server as it was started last.

    Args:
        name: `azurite`, `cosmos` or `mlflow`.
        pid: its process and process group; None once it was stopped.
        port: where it listens on 127.0.0.1, and where it will again if nobody else does by then.
        url: the address its clients use.
        log: its log file.
        data: the folder of everything it keeps.
        started: when its process began, in seconds since the epoch.
        owner: `user`, or the run with which it stops.
    """

    name: str
    pid: int | None
    port: int
    url: str
    log: Path
    data: Path
    started: float
    owner: str

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return is_running(self.pid, self.started)

    @property
    def healthy(self) -> bool:
        """Whether it runs and answers in its protocol."""
        return self.runs and SERVERS[self.name].is_healthy(self.port, self.data)


@dataclass(frozen=True)
class Services:
    """What `<home>/services.json` records: the services of one folder, by name."""

    home: Path
    by_name: Mapping[str, Service]

    def __getitem__(self, name: str) -> Service:
        return self.by_name[name]

    def __iter__(self) -> Iterator[Service]:
        return iter(self.by_name.values())


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """How a service is doing.

    Args:
        name: `azurite`, `cosmos` or `mlflow`.
        state: `healthy`; `silent` (runs, does not answer); `dead` (ended without being stopped); `stopped`.
        url: the address its clients use; empty if it never ran.
        log: its log file.
        pid: its process, if it runs.
        memory: bytes in RAM.
        owner: `user`, or the run with which it stops.
    """

    name: str
    state: str
    url: str
    log: Path
    pid: int | None
    memory: int
    owner: str


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
        only: names of the services wanted; all three if not given.
        owner: who they belong to.
        ports: fixed ports by service name; the others get the one they had before, or a free one.

    Raises:
        SparsightError: a fixed port is taken, Node.js or a package is missing, a service dies or never answers.
    """
    folder = _prepared(home)
    with _state_lock(folder):
        starter = _Starter(folder, owner=owner, outlive=True)
        try:
            return starter.ensure(_names(only), ports or {})
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
    starter = _Starter(folder, owner=f"run of process {os.getpid()}", outlive=False)
    try:
        with _in_use(folder):
            with _state_lock(folder):
                services = starter.ensure(_names(only), {})
            yield services
    finally:
        starter.finish()


def down(home: Path | None = None, *, only: Iterable[str] | None = None) -> list[str]:
    """Stop the services, whoever started them; returns the names of those that ran. Their data stay."""
    folder = _prepared(home)
    with _state_lock(folder):
        services = _read(folder)
        running = [service for name in _names(only) if (service := services.by_name.get(name)) and service.runs]
        for service in running:
            _stop(service)
        _write(Services(folder, {service.name: _ended(service) for service in services}))
    return [service.name for service in running]


def status(home: Path | None = None) -> list[ServiceStatus]:
    """Tell how each service is doing, also those that never ran."""
    folder = home or default_home()
    services = _read(folder)
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
    return variables


class _Starter:
    """Starts what is missing; its supervisor process exists only once something has to be started."""

    def __init__(self, home: Path, *, owner: str, outlive: bool) -> None:
        self._home, self._owner, self._outlive = home, owner, outlive
        self._supervisor: Supervisor | None = None

    def ensure(self, names: Iterable[str], ports: Mapping[str, int]) -> Services:
        """Return the services, all healthy; if one will not start, those started here are stopped again."""
        known = _read(self._home)
        wanted = {name: known.by_name.get(name) for name in names}
        kept = {name: self._adopted(service) for name, service in wanted.items() if service and service.healthy}
        _check_fixed(kept, ports)
        missing = [name for name in wanted if name not in kept]
        for name in missing:
            if (silent := wanted[name]) and silent.runs:
                _stop(silent)
        new = self._start_all(missing, known, ports)
        _write(Services(self._home, {**known.by_name, **kept, **new}))
        self._wait(new, known)
        return Services(self._home, {name: (kept | new)[name] for name in wanted})

    def close(self) -> None:
        """Let go of the supervisor; it stops the services or leaves them, as was chosen."""
        if self._supervisor:
            self._supervisor.close()

    def finish(self) -> None:
        """As `close`, but without waiting for other runs that use the same services; records what ended."""
        if not self._supervisor:
            return
        unused = _is_unused(self._home)
        self._supervisor.close(wait=unused)
        if unused:
            with _state_lock(self._home):
                services = _read(self._home)
                _write(Services(self._home, {service.name: _ended(service) for service in services}))

    def _adopted(self, service: Service) -> Service:
        return replace(service, owner=self._owner) if self._outlive else service

    def _start_all(self, names: list[str], known: Services, ports: Mapping[str, int]) -> dict[str, Service]:
        chosen = _choose_ports(names, known, ports)
        new: dict[str, Service] = {}
        try:
            for name in names:
                new[name] = self._start(name, chosen[name])
        except BaseException:
            for service in new.values():
                _stop(service)
            raise
        return new

    def _start(self, name: str, port: int) -> Service:
        server, data, log = SERVERS[name], self._home / name, self._home / f"{name}.log"
        data.mkdir(mode=0o700, exist_ok=True)
        command, variables = server.command(port, data), server.full_environment(data)
        self._supervisor = self._supervisor or Supervisor(self._home, outlive=self._outlive)
        pid, started = self._supervisor.start(command, variables, data, log)
        url = server.url(port)
        return Service(name=name, pid=pid, port=port, url=url, log=log, data=data, started=started, owner=self._owner)

    def _wait(self, new: Mapping[str, Service], known: Services) -> None:
        try:
            _wait_healthy(new)
        except BaseException:
            for service in new.values():
                _stop(service)
            ended = {name: _ended(service) for name, service in new.items()}
            _write(Services(self._home, {**known.by_name, **ended}))
            raise


def _wait_healthy(services: Mapping[str, Service]) -> None:
    began, waiting = time.monotonic(), dict(services)
    while waiting:
        for name, service in list(waiting.items()):
            server, alive = SERVERS[name], service.runs
            if alive and server.is_healthy(service.port, service.data):
                del waiting[name]
            elif not alive:
                raise _trouble(service, "ended while it was starting")
            elif time.monotonic() - began > server.patience:
                raise _trouble(service, f"does not answer on {service.url} after {server.patience:.0f} s")
        time.sleep(0.05 if waiting else 0)


def _trouble(service: Service, what: str) -> SparsightError:
    title = SERVERS[service.name].title
    return SparsightError(
        f"{title[0].upper()}{title[1:]} {what}. The end of its log:\n{last_lines(service.log)}",
        hint=f"The whole log: {service.log}",
    )


def _choose_ports(names: Iterable[str], known: Services, fixed: Mapping[str, int]) -> dict[str, int]:
    chosen: dict[str, int] = {}
    for name in names:
        if name in fixed:
            _require_free(name, fixed[name])
            chosen[name] = fixed[name]
        elif (before := known.by_name.get(name)) and port_is_free(before.port):
            chosen[name] = before.port
    rest = [name for name in names if name not in chosen]
    return chosen | dict(zip(rest, free_ports(len(rest)), strict=True))


def _require_free(name: str, port: int) -> None:
    if port_is_free(port):
        return
    user = port_user(port)
    by = f" by {user}" if user else ""
    raise SparsightError(
        f"Port {port}, asked for {name}, is in use{by}.",
        hint="Stop that program, or leave the port out and a free one is taken."
        + ("" if user else f" `lsof -i :{port}` may tell who has it."),
    )


def _check_fixed(kept: Mapping[str, Service], fixed: Mapping[str, int]) -> None:
    for name, service in kept.items():
        if fixed.get(name, service.port) != service.port:
            raise SparsightError(
                f"{name} runs on port {service.port} already; asked for was {fixed[name]}.",
                hint="Stop it first: `python execute.py services down`.",
            )


def _stop(service: Service) -> None:
    if service.pid is not None and service.runs:
        terminate_group(service.pid)


def _ended(service: Service) -> Service:
    return service if service.runs else replace(service, pid=None)


def _status(home: Path, name: str, service: Service | None) -> ServiceStatus:
    if service is None or service.pid is None or not service.runs:
        state = "dead" if service and service.pid is not None else "stopped"
        url, owner = (service.url, service.owner) if service else ("", "")
        log = home / f"{name}.log"
        return ServiceStatus(name=name, state=state, url=url, log=log, pid=None, memory=0, owner=owner)
    return ServiceStatus(
        name=name,
        state="healthy" if service.healthy else "silent",
        url=service.url,
        log=service.log,
        pid=service.pid,
        memory=resident_bytes(service.pid),
        owner=service.owner,
    )


def _names(only: Iterable[str] | None) -> list[str]:
    wanted = list(SERVERS) if only is None else list(only)
    if unknown := [name for name in wanted if name not in SERVERS]:
        raise SparsightError(f"There is no service {unknown[0]!r}; there are {', '.join(SERVERS)}.")
    return wanted


def _prepared(home: Path | None) -> Path:
    folder = (home or default_home()).resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def _state_lock(home: Path) -> Iterator[None]:
    with file_lock(home / "state.lock", what="another `services` command or run that is starting the services"):
        yield


@contextmanager
def _in_use(home: Path) -> Iterator[None]:
    with file_lock(home / "in-use.lock", shared=True, what="the services of a run that ended to stop"):
        yield


def _is_unused(home: Path) -> bool:
    try:
        with file_lock(home / "in-use.lock", patience=0, what="other runs"):
            return True
    except SparsightError:
        return False


def _read(home: Path) -> Services:
    path = home / _STATE
    if not path.is_file():
        return Services(home, {})
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, expected {_VERSION}")
        entries = content["services"].values()
        services = [Service(**{**one, "log": Path(one["log"]), "data": Path(one["data"])}) for one in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SparsightError(
            f"{path} can't be read: {error}.", hint="Stop the services' processes if any run, then remove this file."
        ) from error
    return Services(home, {service.name: service for service in services})


def _write(services: Services) -> None:
    entries = {service.name: asdict(service) for service in services}
    text = json.dumps({"version": _VERSION, "services": entries}, indent=2, default=str)
    write_private(services.home / _STATE, text + "\n")
