"""A copy of the toy pipelines in a folder of its own, with the command line to run them in this process."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparsight.cli import main
from sparsight.local.graph import Pipeline
from sparsight.local.loading import load_pipeline
from sparsight.local.problems import Problem
from sparsight.local.records import RunFolder, all_runs

TOYS = Path(__file__).parent / "toy_pipelines"

INLINE = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
description: Made by a test.
inputs:
{inputs}
settings:
  default_compute: azureml:cpu
jobs:
{jobs}
"""

JOB = """\
  {name}:
    type: command
    command: >-
      {command}
    environment:
      image: mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference
    inputs:
{inputs}
    outputs:
      out:
        type: uri_folder
"""


@dataclass
class Answer:
    """What a command wrote and how it ended."""

    code: int
    out: str
    err: str


class Project:
    """A repository with nothing but the toy pipelines in it; without them, one that is there already."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], *, toys: bool = True) -> None:
        self.root, self._capsys = root, capsys
        if toys:
            shutil.copytree(TOYS, root / "pipelines")

    def __call__(self, *arguments: str) -> Answer:
        """Run a command in this process."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(self.root, list(arguments))
        out, err = self._capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, out, err)

    def command(self, *arguments: str) -> list[str]:
        """Write the same command as a process."""
        imports = "import sys; from pathlib import Path; from sparsight.cli import main"
        program = f"{imports}; main(Path(sys.argv[1]), sys.argv[2:])"
        return [sys.executable, "-c", program, str(self.root), *arguments]

    def path(self, name: str) -> Path:
        return self.root / "pipelines" / name

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file; it must be there."""
        text = self.path(name).read_text()
        assert old in text
        self.path(name).write_text(text.replace(old, new))

    def inline(self, name: str, jobs: dict[str, tuple[str, dict[str, str]]], **inputs: object) -> None:
        """Write a pipeline of commands written in place: name -> command, inputs."""
        written = [
            JOB.format(name=job, command=command, inputs=_lines(values, 6)) for job, (command, values) in jobs.items()
        ]
        self.path(f"{name}.yml").write_text(INLINE.format(inputs=_lines(inputs, 2), jobs="\n".join(written)))

    def load(self, name: str) -> tuple[Pipeline, list[Problem]]:
        return load_pipeline(self.path(f"{name}.yml"))

    def latest(self) -> RunFolder:
        return next(iter(all_runs(self.root / "runs")))

    def statuses(self) -> dict[str, str]:
        run = self.latest()
        return {name: step.status if (step := run.read_step(name)) else "waiting" for name in run.read().steps}


def _lines(values: dict[str, object] | dict[str, str], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{name}: {value}" for name, value in values.items()) or f"{' ' * indent}{{}}"
