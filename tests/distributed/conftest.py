"""Runs programs in several processes that Horovod connects, on this machine.

Fixtures:
    horovod: `horovod.run(program, *arguments)` starts a Python program in two processes and returns what they wrote.
        Horovod is the one that is installed; where it isn't, it is built once (some minutes) and taken from the cache
        from then on, without being installed.
"""

import importlib.util
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "environments" / "build_horovod.py"


@dataclass(frozen=True)
class Horovod:
    """Horovod on this machine.

    Args:
        folder: where it is, if not among the installed packages.
    """

    folder: Path | None

    def run(self, program: Path, *arguments: object, processes: int = 2, seconds: float = 180) -> str:
        """Run a program in several processes and return their output; a failure of one fails the test."""
        launch = ["-m", "horovod.runner.launch", "-np", str(processes), "--gloo", "-H", f"localhost:{processes}"]
        command = [sys.executable, *launch, sys.executable, str(program), *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return this process's variables, by which the others find Horovod, too."""
        paths = [str(self.folder)] if self.folder else []
        paths += [path for path in [os.environ.get("PYTHONPATH")] if path]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def horovod(tmp_path_factory: pytest.TempPathFactory) -> Horovod:
    if importlib.util.find_spec("horovod") is not None:
        return Horovod(None)
    built = subprocess.run([sys.executable, str(BUILD), "--gloo"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    folder = tmp_path_factory.mktemp("horovod")
    with zipfile.ZipFile(built.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(folder)
    return Horovod(folder)
