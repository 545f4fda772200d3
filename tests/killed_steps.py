"""A training step killed after its first checkpoint, and what two of its model folders hold."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sparsight.training.checkpoints import CHECKPOINT


def run_and_kill_after_an_epoch(step: str, chosen: Any) -> int:
    """Start a step as a process, kill it with signal 9 soon after its first checkpoint, and give its exit status."""
    given = {name: value for name, value in vars(chosen).items() if value is not None}
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", f"sparsight.steps.{step}", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    checkpoint = chosen.model.with_name(f"{chosen.model.name}.partial") / CHECKPOINT
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert checkpoint.exists(), errors.decode()
    return process.returncode


def files(folder: Path) -> dict[Path, bytes]:
    """Content of all files but the copied source code, which may be edited between two runs."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if "code" not in name.parts}
