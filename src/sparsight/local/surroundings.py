"""What surrounds the steps of a run: code version, package versions, and the variables and services they find."""

import contextlib
import hashlib
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType

from sparsight.local.digests import file_digest, files_under
from sparsight.local.graph import Pipeline, Step

_PACKAGES = ("sparsight", "torch", "torchvision", "lightly", "timm", "mlflow", "azure-ai-ml", "numpy")


def code_version(root: Path) -> str:
    """Name the state of the code in `src`: the commit that last changed it, or a hash of it where git knows none."""
    try:
        commit = _git(root, "log", "-1", "--format=%H", "--", "src")
        if commit:
            dirty = "-dirty" if _git(root, "status", "--porcelain", "--", "src") else ""
            return _git(root, "describe", "--always", "--tags", commit) + dirty
    except (OSError, subprocess.SubprocessError):
        pass
    total = hashlib.sha256()
    for name, file in files_under(root / "src"):
        if file.suffix == ".py":
            total.update(f"{name}\0{file_digest(file)}\n".encode())
    return f"src-{total.hexdigest()[:12]}"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def lock_digest(root: Path) -> str:
    """Hash the file that pins the packages; empty where there is none."""
    lock = root / "requirements.lock"
    return file_digest(lock) if lock.is_file() else ""


def package_versions() -> dict[str, str]:
    """List the versions of Python and the packages that matter most, without importing them."""
    import platform

    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class Surroundings:
    """Gives each step its variables, and starts local services when the first step that needs them does.

    Use it as a context: services that it started end with it. With `services=False` none are started, and steps find
    what the caller's own variables name.
    """

    def __init__(self, pipeline: Pipeline, version: str, *, services: bool = True) -> None:
        self._common = {"MLFLOW_EXPERIMENT_NAME": pipeline.name, "SPARSIGHT_CODE_VERSION": version}
        self._services = services
        self._known: dict[str, str] = {}
        self._started: set[str] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Surroundings":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def variables(self, step: Step) -> Mapping[str, str]:
        """Return what a step finds in its environment on top of the caller's own; never logged, keys are in it.

        Raises:
            SparsightError: a service that the step needs doesn't start.
        """
        wanted = set(step.services) - self._started if self._services else set()
        if wanted:
            from sparsight.local.services import environment, running_services

            print(f"Local services for {step.name}: {', '.join(sorted(wanted))}", flush=True)
            services = self._stack.enter_context(running_services(only=sorted(wanted)))
            self._known |= environment(services)
            self._started |= wanted
        return self._common | self._known
