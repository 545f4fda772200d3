"""The one entry point: pipelines here and on Azure ML, models, schedules, sample data and the local services."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def _use_own_environment() -> None:
    """Start again with the Python of `.venv` beside this file, if there is one and this isn't it."""
    own = ROOT / ".venv" / "bin" / "python"
    if own.exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(own, [str(own), str(Path(__file__).resolve()), *sys.argv[1:]])  # noqa: S606 (no shell is wanted)


def main() -> None:
    """Run the command line."""
    _use_own_environment()
    try:
        from sparsight.cli import main as run
    except ModuleNotFoundError as error:
        sys.exit(f"error: the package {error.name} is missing.\nInstall what Sparsight needs: make install")
    run(ROOT)


if __name__ == "__main__":
    main()
