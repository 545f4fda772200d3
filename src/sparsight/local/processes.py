"""Processes, ports, locks and private files of the local services."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from sparsight.errors import SparsightError

HOST = "127.0.0.1"
_STOPPING = 20.0  # seconds; more than a supervisor needs, unless another run has come to use its services
_SAME_START = 2.0  # seconds; the kernel's idea of when a process began shifts a little with the clock


def is_running(pid: int | None, started: float) -> bool:
    """Tell whether the process `pid` that began at `started` (seconds since the epoch) still runs.

    Another process that got the same number later does not count, nor does one that has ended and waits for its parent.
    """
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < _SAME_START
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def resident_bytes(pid: int) -> int:
    """Memory in RAM of a process and its children, in bytes; 0 if it is gone."""
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def terminate_group(pid: int, *, grace: float = 8.0) -> None:
    """End a process group: politely, and after `grace` seconds by force."""
    try:
        leader = psutil.Process(pid)
        members = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        deadline = time.monotonic() + grace
        while any(_lives(member) for member in members):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def port_user(port: int) -> str:
    """Say who listens on a port, as far as this user may know; empty if not."""
    for process in psutil.process_iter(["pid", "name"]):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return f"{process.info['name']}, process {process.info['pid']}"
    return ""


def read_tail(path: Path) -> str:
    """Read the last 16 KB of a log; nothing where it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_lines(path: Path, count: int = 12) -> str:
    """Return the end of a log, indented; says so when it is empty."""
    lines = read_tail(path).splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) or "  (the log is empty)"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, so that it is whole or absent."""
    draft = path.with_name(f".{path.name}.draft")
    with open(draft, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Read a secret from a file that only its owner can read; it is made and written there on first use."""
    if not path.exists():
        write_private(path, make() + "\n")
    return path.read_text(encoding="utf-8").strip()


@contextmanager
def file_lock(path: Path, *, shared: bool = False, patience: float = 180.0, what: str) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when this process ends, however it ends.

    Raises:
        SparsightError: somebody else has held it for `patience` seconds.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _try_lock(handle, shared=shared):
            if time.monotonic() > deadline:
                raise SparsightError(f"Waited {patience:.0f} s for {what} ({path} is locked).")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Supervisor:
    """The process beside this one that starts services; see `supervisor.py` for why.

    Args:
        home: the services' folder.
        outlive: whether the services stay when this process ends.
    """

    def __init__(self, home: Path, *, outlive: bool) -> None:
        script = Path(__file__).with_name("supervisor.py")
        mode = "leave" if outlive else "stop"
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), mode, str(home), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def start(self, command: Sequence[str], environment: dict[str, str], folder: Path, log: Path) -> tuple[int, float]:
        """Start a process; returns its id and when it began, in seconds since the epoch.

        Raises:
            SparsightError: it cannot be started, for instance because the program is missing.
        """
        spec = {"command": list(command), "environment": environment, "folder": str(folder), "log": str(log)}
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the supervisor has no pipes")
        self._process.stdin.write(json.dumps(spec).encode() + b"\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline() or b'{"error": "its supervisor died"}')
        if "error" in reply:
            raise SparsightError(f"{command[0]} could not be started: {reply['error']}.")
        return reply["pid"], _started(reply["pid"])

    def close(self, *, wait: bool = True) -> None:
        """Say that there is no more to start; unless they outlive this process, the services stop now."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_STOPPING if wait else 0)
        except subprocess.TimeoutExpired:
            self._process.returncode = 0  # it goes on without us, as long as another run uses its services
        if self._process.stdout is not None:
            self._process.stdout.close()


def _started(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0
