"""The services that were started, as `services.json` in their folder records them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sparsight.errors import SparsightError
from sparsight.local.processes import is_running, terminate_group, write_private
from sparsight.local.servers import SERVERS

_STATE = "services.json"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Service:
    """A server as it was started last.

    Args:
        name: `azurite`, `cosmos`, `mlflow`, `label-studio` or `optuna-dashboard`.
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


def stop(service: Service) -> Service:
    """End a service's process group; returns its record without the process."""
    if service.pid is not None and service.runs:
        terminate_group(service.pid)
    return replace(service, pid=None)


def read_services(home: Path) -> Services:
    """Read what is recorded in a services' folder; nothing is, if none ever ran.

    Raises:
        SparsightError: the record is unreadable or of another version.
    """
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


def write_services(services: Services) -> None:
    """Record the services, readable by their owner only."""
    entries = {service.name: asdict(service) for service in services}
    text = json.dumps({"version": _VERSION, "services": entries}, indent=2, default=str)
    write_private(services.home / _STATE, text + "\n")
