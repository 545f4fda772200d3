"""A command as a process of its own, which never outlives whoever started it."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsight.guarded import guard


def start_guarded(
    command: str, *, stdout: Any, stderr: Any, variables: Mapping[str, str], folder: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command line under a guard, which ends it when the returned process's standard input is closed."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, command],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env=variables,
        start_new_session=True,
    )


class StepProcess:
    """A step that runs: its guard, and the pipe whose end tells the guard to stop.

    Args:
        command: the command line for bash.
        folder: the working directory.
        log: the file that takes what it writes, added at the end.
        variables: its whole environment.
    """

    def __init__(self, command: str, folder: Path, log: Path, variables: Mapping[str, str]) -> None:
        with log.open("ab") as output:
            self._guard = start_guarded(
                command, stdout=output, stderr=subprocess.STDOUT, variables=variables, folder=folder
            )

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        code = self._guard.poll()
        if code is not None:
            self.ask_to_end()
        return code

    def ask_to_end(self) -> None:
        """Tell the guard to end the step's processes, without waiting."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def end(self) -> None:
        """End the step's processes and wait until they are gone."""
        self.ask_to_end()
        try:
            self._guard.wait(guard.GRACE + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
