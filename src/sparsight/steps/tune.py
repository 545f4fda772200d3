"""The step tune: searches for the inputs with which a training step does best, and registers the best model."""

import importlib
import os
import pkgutil
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sparsight.steps.arguments import run_step

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

    from sparsight.evaluation.tuning_report import TuningResult
    from sparsight.tuning.searching import Direction
    from sparsight.tuning.space import SearchSpace
    from sparsight.tuning.tracked import TrackedTrials
    from sparsight.tuning.tuner import Plan

_COMPONENTS = Path(__file__).resolve().parents[3] / "components"
_NEW = "new"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component tune."""

    images: Path
    search_space: Path
    model: Path
    tuning: Path
    probe_images: Path | None = None
    validation_images: Path | None = None
    base_model_folder: Path | None = None
    step: str = "train_classifier"
    metric: str = "valid_macro_f1"
    direction: str = "maximise"
    trials: int = 20
    parallel: int = 1
    sampler: str = "tpe"
    pruner: str = "none"
    startup_trials: int = 5
    warmup_epochs: int = 0
    study: str = _NEW
    model_name: str = "tuned"
    seed: int = 0

    def parameters(self) -> dict[str, Any]:
        """What is tuned, and how: everything but where data comes from and goes to."""
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and name != "model_name" and not isinstance(value, Path)
        }


def main(arguments: Arguments) -> None:
    """Run trials until there are enough, hand over the best one's model, and report."""
    from sparsight.data.artefact import is_finished, new_artefact
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.tuning_report import write_tuning_report
    from sparsight.stores.studies import StudyStorage
    from sparsight.training.tracking import tracked_run
    from sparsight.tuning.tracked import TrackedTrials

    plan, images = _plan(arguments), PackedImages(arguments.images)
    photos = {**images.manifest.parameters, "digest": images.origin.digest}
    parameters = {**arguments.parameters(), "space": plan.space.told(), "images": photos}
    with tracked_run("tune", arguments.parameters()) as tracker:
        if not is_finished(arguments.tuning, "tuning", parameters):
            with new_artefact(arguments.tuning, "tuning", parameters, resume=True) as draft:
                runs, work = TrackedTrials(tracker.run_id, arguments.metric), draft.folder / "work"
                work.mkdir(exist_ok=True)
                with StudyStorage.from_environment(work / "study.db").opened() as storage:
                    study = _study(arguments, plan.space, photos, storage)
                    result = _search(arguments, plan, study, work / "trials", runs)
                shutil.rmtree(work)
                write_tuning_report(draft.folder, result)
                draft.counts.update(result.counts)
            tracker.metrics({f"best_{arguments.metric}": result.best_value})
        tracker.folder(arguments.tuning, "report")


def _plan(arguments: Arguments) -> "Plan":
    from sparsight.tuning.inputs import FOLDERS, folders_of, inputs_of
    from sparsight.tuning.space import read_space
    from sparsight.tuning.tuner import Plan

    step = _training_step(arguments.step)
    component = _COMPONENTS / arguments.step / "component.yml"
    inputs = inputs_of(step, component if component.is_file() else None)
    folders = {name: folder for name in sorted(FOLDERS) if (folder := getattr(arguments, name)) is not None}
    _check_folders(arguments.step, folders_of(step), folders)
    return Plan(
        step=arguments.step,
        given={"images": arguments.images, "model_name": arguments.model_name, **folders},
        space=read_space(arguments.search_space, arguments.step, inputs),
        trials=arguments.trials,
        parallel=arguments.parallel,
        sampler=arguments.sampler,
        startup_trials=arguments.startup_trials,
        seed=arguments.seed,
    )


def _training_step(name: str) -> type[Any]:
    """Find the arguments of a training step.

    Raises:
        SparsightError: there is no such step.
    """
    from sparsight import steps
    from sparsight.errors import SparsightError

    known = sorted(each.name for each in pkgutil.iter_modules(steps.__path__) if each.name.startswith("train_"))
    if name not in known:
        raise SparsightError(f"There is no training step {name!r}; there are {', '.join(known)}.")
    found: type[Any] = importlib.import_module(f"sparsight.steps.{name}").Arguments
    return found


def _check_folders(step: str, taken: frozenset[str], given: dict[str, Path]) -> None:
    from sparsight.errors import SparsightError

    if unknown := sorted(set(given) - taken):
        raise SparsightError(
            f"{step} takes no {', '.join(unknown)}; of folders it takes {', '.join(sorted({'images', *taken}))}."
        )


def _study(arguments: Arguments, space: "SearchSpace", photos: dict[str, Any], storage: "BaseStorage") -> "Study":
    from sparsight.tuning.searching import make_pruner, open_study

    name = arguments.study
    if name == _NEW:
        name = os.environ.get("SPARSIGHT_RUN") or os.environ.get("AZUREML_ROOT_RUN_ID") or "tuning"
    study = open_study(
        storage,
        name,
        cast("Direction", arguments.direction),
        make_pruner(arguments.pruner, arguments.startup_trials, arguments.warmup_epochs),
        {"step": arguments.step, "metric": arguments.metric, "search_space": space.told(), "images": photos},
    )
    print(f"Study {study.study_name}: {len(study.trials)} trials so far, {arguments.trials} wanted.", flush=True)
    return study


def _search(arguments: Arguments, plan: "Plan", study: "Study", folder: Path, runs: "TrackedTrials") -> "TuningResult":
    """Run trials, which work in a folder, and hand the best one's model over."""
    from sparsight.tuning.results import result_of
    from sparsight.tuning.tuner import Tuner
    from sparsight.tuning.winner import best_trial, hand_over

    Tuner(plan, study, folder, runs).carry_out()
    best = best_trial(study, folder)
    reference = hand_over(best, plan, folder, runs, arguments.model, arguments.model_name)
    return result_of(study, plan.space, arguments.parameters(), reference)


if __name__ == "__main__":
    run_step(Arguments, main)
