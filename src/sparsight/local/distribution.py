"""How many processes a step runs as: what its distribution says, or its inputs `processes` and `instances`."""

import importlib.util
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from sparsight.errors import SparsightError
from sparsight.local.graph import Literal, Pipeline, Step
from sparsight.local.problems import Problem


@dataclass(frozen=True)
class Size:
    """Processes on each of some nodes; on this machine all of them run side by side."""

    processes: int
    instances: int

    @property
    def total(self) -> int:
        """All processes."""
        return self.processes * self.instances


def size_of(pipeline: Pipeline, step: Step) -> Size:
    """Find how many processes a step runs as.

    Azure ML's `process_count_per_instance` and `instance_count` take no bindings, so a component that lets its caller
    choose has the inputs `processes` and `instances`; where it has none, the YAML's own numbers hold.
    """
    written = step.distribution
    if written.type != "mpi":
        return Size(written.processes, written.instances if written.type else 1)
    return Size(
        _input(pipeline, step, "processes", written.processes), _input(pipeline, step, "instances", written.instances)
    )


def _input(pipeline: Pipeline, step: Step, name: str, otherwise: int) -> int:
    source = pipeline.source(step, name) if name in step.ports else None
    value = source.value if isinstance(source, Literal) else otherwise
    return value if isinstance(value, int) else otherwise  # of a wrong type: the checks tell


def check_distributions(pipeline: Pipeline) -> Iterator[Problem]:
    """Find steps in several processes that nothing here can launch."""
    for step in pipeline.steps.values():
        total = size_of(pipeline, step).total
        if step.distribution.type not in {"", "mpi"} and total > 1:
            text = (
                f"{total} processes of a {step.distribution.type} distribution run on Azure ML only; here an mpi "
                "distribution is launched."
            )
            yield Problem(f"{step.where}.distribution", text)


def check_horovod(pipeline: Pipeline) -> None:
    """Refuse a run with a step in several processes where Horovod, which connects them, isn't installed.

    Raises:
        SparsightError: it isn't.
    """
    for step in pipeline.steps.values():
        total = size_of(pipeline, step).total
        if total > 1 and importlib.util.find_spec("horovod") is None:
            raise SparsightError(
                f"The step {step.name} runs as {total} processes, which Horovod connects, and Horovod isn't installed. "
                "Nothing was started.",
                hint="Build and install it, once: make horovod",
            )


def launched(command: str, processes: int) -> str:
    """Write the command line that runs another one as several processes."""
    launcher = [sys.executable, "-m", "sparsight.local.horovod_launcher", "--processes", str(processes)]
    return shlex.join(["exec", *launcher, "--shell", command])
