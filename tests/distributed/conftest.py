"""Runs programs in several processes that Horovod connects, on this machine.

Fixtures:
    horovod: `horovod.run(program, *arguments)` runs a Python program in two processes and returns what they wrote.
        Horovod is the one that is installed; where it isn't, it is built once (some minutes) and taken from the cache
        from then on, without being installed.
"""

import importlib.util
import os
import shlex
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

    def run(self, program: Path, *arguments: object, processes: int = 2, static: bool = False) -> str:
        """Run a program in several processes and return their standard error; a failure of one fails the test.

        Args:
            program: the Python program.
            arguments: its own.
            processes: how many.
            static: start them as Horovod's own launcher does, and so as MPI would: none is replaced.
        """
        words = [sys.executable, str(program), *map(str, arguments)]
        variables = {**self.environment(), "OMP_NUM_THREADS": "1"}
        if static:
            launch = ["-m", "horovod.runner.launch", "-np", str(processes), "--gloo", "-H", f"localhost:{processes}"]
            command = [sys.executable, *launch, *words]
            # It writes all variables on command lines.
            named = ("PATH", "HOME", "TMPDIR", "PYTHONPATH", "OMP_NUM_THREADS", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
            variables = {name: value for name, value in variables.items() if name in named}
        else:
            launch = ["-m", "sparsight.local.horovod_launcher", "--processes", str(processes), "--shell"]
            command = [sys.executable, *launch, f"exec {shlex.join(words)}"]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stderr

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
