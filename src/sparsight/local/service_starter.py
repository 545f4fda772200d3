"""Brings the local services up: reuses those that answer, starts the others side by side, or none if one fails."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from sparsight.errors import SparsightError
from sparsight.local.processes import Supervisor, file_lock, free_ports, last_lines, port_is_free, port_user
from sparsight.local.servers import SERVERS
from sparsight.local.service_records import Service, Services, read_services, stop, write_services

_BUSY = 30.0  # seconds that a running service may be silent before it is taken for stuck and started again


class Starter:
    """Starts what is missing; its supervisor process exists only once something has to be started."""

    def __init__(self, home: Path, *, owner: str, outlive: bool) -> None:
        self._home, self._owner, self._outlive = home, owner, outlive
        self._supervisor: Supervisor | None = None

    def ensure(self, names: Iterable[str], ports: Mapping[str, int]) -> Services:
        """Return the services, all healthy; if one will not start, those started here are stopped again."""
        known = read_services(self._home)
        wanted = {name: known.by_name.get(name) for name in names}
        kept = {name: self._adopted(service) for name, service in wanted.items() if service and _answers(service)}
        _check_fixed(kept, ports)
        missing = [name for name in wanted if name not in kept]
        for name in missing:
            if (silent := wanted[name]) and silent.runs:
                stop(silent)
        new = self._start_all(missing, known, ports)
        write_services(Services(self._home, {**known.by_name, **kept, **new}))
        return Services(self._home, {name: (kept | new)[name] for name in wanted})

    def close(self) -> None:
        """Let go of the supervisor; it stops the services, once no other run uses them, or leaves them."""
        if self._supervisor:
            self._supervisor.close(wait=self._outlive or is_unused(self._home))

    def _adopted(self, service: Service) -> Service:
        return replace(service, owner=self._owner) if self._outlive else service

    def _start_all(self, names: list[str], known: Services, ports: Mapping[str, int]) -> dict[str, Service]:
        """Start them side by side and wait for all; on any trouble, stop them again."""
        chosen = _choose_ports(names, known, ports)
        new: dict[str, Service] = {}
        try:
            for name in names:
                new[name] = self._start(name, chosen[name])
                write_services(Services(self._home, {**known.by_name, **new}))
            _wait_healthy(new)
        except BaseException:
            ended = {name: stop(service) for name, service in new.items()}
            write_services(Services(self._home, {**known.by_name, **ended}))
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


def _answers(service: Service) -> bool:
    """Give a running service that is only busy, perhaps with another run, the time to answer."""
    deadline = time.monotonic() + _BUSY
    while service.runs and time.monotonic() < deadline:
        if service.healthy:
            return True
        time.sleep(0.2)
    return False


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


def is_unused(home: Path) -> bool:
    """Tell whether no run uses the services of this folder now."""
    try:
        with file_lock(home / "in-use.lock", patience=0, what="other runs"):
            return True
    except SparsightError:
        return False
