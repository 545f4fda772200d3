"""A trial's process: the step's own command line, with a folder, an MLflow run and a share of the processors."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsight.guarded.step_process import StepProcess
from sparsight.stores.studies import SECRET_VARIABLE, URL_VARIABLE
from sparsight.training.publishing import TRIAL_LINEAGE
from sparsight.tuning.inputs import Scalar


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a trial works: what it makes lies there until it is known whether it is the best."""

    folder: Path

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.folder / "model"

    @property
    def lineage(self) -> Path:
        """What is known of the finished model."""
        return self.folder / "lineage.json"

    @property
    def log(self) -> Path:
        """What the step says."""
        return self.folder / "log.txt"


def start_trial(
    step: str,
    inputs: Mapping[str, Scalar | Path],
    place: Place,
    run_id: str | None,
    share: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
) -> StepProcess:
    """Start a step with its inputs.

    Args:
        step: its name.
        inputs: by name, but for the model.
        place: where it works.
        run_id: of MLflow, into which it logs; None where it begins a run of its own.
        share: variables of its own, such as those that give it its share of this machine.
        environment: of this process; the address of the studies stays out of the trial's.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    flags = [word for name, value in {**inputs, "model": place.model}.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", f"sparsight.steps.{step}", *flags]
    hidden = {URL_VARIABLE, SECRET_VARIABLE}
    variables = {name: value for name, value in environment.items() if name not in hidden}
    own = {TRIAL_LINEAGE: str(place.lineage), "PYTHONUNBUFFERED": "1"}
    if run_id is not None:
        own["MLFLOW_RUN_ID"] = run_id
    return StepProcess(shlex.join(command), Path.cwd(), place.log, {**variables, **share, **own})


def share_of(slot: int, parallel: int, environment: Mapping[str, str], gpus: Sequence[str]) -> dict[str, str]:
    """Say which GPU the trial in a slot sees, if there are any, and how many threads it takes.

    Args:
        slot: of the trials that run side by side, from 0.
        parallel: their number.
        environment: that may set the number of threads itself.
        gpus: as CUDA_VISIBLE_DEVICES names them.
    """
    share = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
    if "OMP_NUM_THREADS" not in environment and parallel > 1:
        share["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // parallel))
    return share


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Name the GPUs that this process may use."""
    import torch

    named = environment.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def reason_in(log: Path) -> str:
    """Find what a step that failed said last: its error, or the last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    told = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    last = lines[told[-1] :] if told else [line for line in lines if line.strip()][-1:]
    return "\n".join(last).removeprefix("error: ") or "it said nothing"
