"""Runs apart: starts the local services, and stops them with the run that asked for them, even if it is killed.

Standard library only, never imported: `python supervisor.py leave|stop HOME`. Each line on standard input is a
process to start; its id is answered on standard output. `leave`: the processes outlive this one. `stop`: when standard
input ends or the parent is gone, and no other run holds HOME/in-use.lock, their process groups are terminated.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GRACE = 8.0  # seconds between the polite signal and the other one
TICK = 0.25

children: list["subprocess.Popen[bytes]"] = []


def start(spec: dict[str, Any]) -> int:
    """Start one process in a group of its own, its output going to a log only the user can read."""
    log = Path(spec["log"])
    if log.exists():
        log.replace(log.with_suffix(".old.log"))
    with open(log, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        child = subprocess.Popen(
            spec["command"],
            env=spec["environment"],
            cwd=spec["folder"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    children.append(child)
    return child.pid


def serve(parent: int) -> None:
    """Start what is asked for until standard input ends or the parent process is gone."""
    pending = b""
    while os.getppid() == parent:
        for child in children:
            child.poll()
        if not select.select([0], [], [], TICK)[0]:
            continue
        received = os.read(0, 1 << 16)
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            answer(line)


def answer(line: bytes) -> None:
    """Start what one line asks for and say its process id, or why it could not be started."""
    try:
        reply: dict[str, Any] = {"pid": start(json.loads(line))}
    except OSError as error:
        reply = {"error": str(error)}
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(reply).encode() + b"\n")


def wait_until_unused(home: Path) -> int:
    """Wait until no run uses the services any more; the lock returned keeps new ones out until this process ends."""
    lock = os.open(home / "in-use.lock", os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            time.sleep(TICK)
            for child in children:
                child.poll()


def kept(home: Path) -> set[int]:
    """Process ids of services that `services up` took over meanwhile: they stay."""
    try:
        services = json.loads((home / "services.json").read_text(encoding="utf-8"))["services"]
    except (OSError, ValueError, KeyError):
        return set()
    return {entry["pid"] for entry in services.values() if entry.get("owner") == "user"}


def stop(home: Path) -> None:
    """Terminate the process groups, politely first."""
    staying = kept(home)
    leaving = [child for child in children if child.pid not in staying and child.poll() is None]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in leaving:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(child.poll() is None for child in leaving):
            time.sleep(0.02)


def main() -> None:
    """Serve, then stop what was started if it must not outlive the run."""
    mode, home = sys.argv[1], Path(sys.argv[2])
    # A signal to this process is a wish to end: the run's services end with it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    parent = int(sys.argv[3])
    try:
        serve(parent)
        if mode == "stop":
            wait_until_unused(home)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if mode == "stop":
            stop(home)


if __name__ == "__main__":
    main()
