"""What the processes of one step write, made into what one process would have written."""

import re
import threading
from collections.abc import Iterator
from typing import IO, BinaryIO

_LINE = re.compile(rb"[^\r\n]*[\r\n]")


class Output:
    """Passes on standard output of one worker, and standard error of all, a refusal that all agree on once.

    Args:
        stdout: where standard output goes.
        stderr: where standard error goes.
    """

    def __init__(self, stdout: BinaryIO, stderr: BinaryIO) -> None:
        self._stdout, self._stderr = stdout, stderr
        self._lock = threading.Lock()
        self._refusals: dict[bytes, int] = {}
        self.speaker = 0

    def say(self, text: str) -> None:
        """Write a line of the launcher's own to standard error."""
        with self._lock:
            self._stderr.write(f"{text}\n".encode())
            self._stderr.flush()

    def pass_on_stdout(self, worker: int, stream: IO[bytes]) -> None:
        """Copy a worker's standard output to its end as long as it is the speaker; drop it otherwise."""
        for chunk in _chunks(stream):
            with self._lock:
                if worker == self.speaker:
                    self._stdout.write(chunk)
                    self._stdout.flush()

    def pass_on_stderr(self, worker: int, stream: IO[bytes]) -> None:
        """Copy a worker's standard error to its end, without the lines of a refusal that another has written.

        A step says `error: ` and what is wrong, then what to do next, and ends.
        """
        refusing = False
        for line in _lines(stream):
            refusing = refusing or line.startswith(b"error:")
            with self._lock:
                if refusing and self._refusals.setdefault(line, worker) != worker:
                    continue
                self._stderr.write(line)
                self._stderr.flush()


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]
        yield chunk


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Cut at line ends and where a progress bar is redrawn, so that lines of several workers stay whole."""
    rest = b""
    for chunk in _chunks(stream):
        rest += chunk
        end = 0
        for match in _LINE.finditer(rest):
            end = match.end()
            yield match[0]
        rest = rest[end:]
    if rest:
        yield rest
