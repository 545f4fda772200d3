"""Shows a run while it goes on: a live table on a terminal, one line for each change anywhere else."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sparsight.local.processes import read_tail
from sparsight.local.records import RunFolder, StepRecord
from sparsight.progress import duration

STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "reused": "blue",
    "done": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "skipped": "yellow",
    "killed": "red",
}


def last_lines(log: Path, count: int) -> list[str]:
    """Read the last lines of a log that hold something; a line redrawn in place counts as drawn last."""
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in read_tail(log).split("\n")]
    return [line for line in lines if line.strip()][-count:]


class View:
    """Says what the steps do. Use it as a context; call `changed` after each change and `tick` often.

    Args:
        run: the run's folder, for the logs.
        records: the steps, in order; the runner changes them.
        console: where to write; a live table where it is a terminal.
    """

    def __init__(self, run: RunFolder, records: Mapping[str, StepRecord], console: Console | None = None) -> None:
        self.run, self.records = run, records
        self.console = console or Console(file=sys.stdout, highlight=False)
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._drawn = 0.0

    def __enter__(self) -> "View":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def changed(self, record: StepRecord) -> None:
        """Tell that a step's status changed."""
        if not self._live:
            self.say(f"{record.name}: {self._note(record)}")
        self.tick(force=True)

    def tick(self, *, force: bool = False) -> None:
        """Draw the live table anew, at most four times a second."""
        if self._live and (force or time.monotonic() - self._drawn > 0.25):
            self._drawn = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def _note(self, record: StepRecord) -> str:
        if record.status == "running":
            return f"running ({record.reason})"
        if record.status in {"done", "failed", "cancelled"} and record.started:
            code = f", exit code {record.exit_code}" if record.status == "failed" else ""
            return f"{record.status} after {duration(record.finished - record.started)}{code}"
        return f"{record.status} ({record.reason})" if record.reason else record.status

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis")
        for record in self.records.values():
            status, last = Text(record.status, STYLES[record.status]), Text(self._last(record), "dim")
            table.add_row(record.name, status, _elapsed(record), last)
        return table

    def _last(self, record: StepRecord) -> str:
        if record.status in {"running", "failed"}:
            return next(iter(last_lines(self.run.log(record.name), 1)), record.reason)
        return record.reason


def _elapsed(record: StepRecord) -> str:
    if not record.started:
        return ""
    return duration((record.finished or time.time()) - record.started)
