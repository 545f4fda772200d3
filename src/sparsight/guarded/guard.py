"""Stands between the runner and a step's command, and ends all of the step's processes when the runner is gone.

Run by path, not imported: `python guard.py COMMAND`. Standard input is a pipe that only the runner holds open; at its
end, which the system also brings about when the runner is killed, the command's process group gets SIGTERM and
`GRACE` seconds later SIGKILL. This holds on Linux and macOS alike.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 5.0


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False when nobody is left in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


def _end(group: int) -> None:
    _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while _signal_group(group, 0) and time.monotonic() < deadline:
        time.sleep(0.02)


def main(command: str) -> int:
    """Run a command line in bash, in a process group of its own, and return its exit status as a shell would."""
    process = subprocess.Popen(["bash", "-c", command], stdin=subprocess.DEVNULL, start_new_session=True)
    abandoned = threading.Event()

    def watch() -> None:
        while os.read(0, 1):
            pass
        abandoned.set()
        _end(process.pid)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = process.wait()
    if abandoned.is_set():
        watcher.join()
    _signal_group(process.pid, signal.SIGKILL)  # whatever is left, also what the command put in the background
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
