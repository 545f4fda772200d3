"""The best trial of a study: its model, taken over or trained once more, and registered."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sparsight.data.artefact import copy_artefact, is_artefact
from sparsight.errors import SparsightError
from sparsight.guarded.step_process import terminable
from sparsight.stores.lineage import Lineage
from sparsight.stores.models import register_model
from sparsight.tuning.searching import best_number
from sparsight.tuning.trial_process import Place, reason_in, share_of, start_trial, visible_gpus
from sparsight.tuning.tuner import INPUTS, Plan, place_of

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from sparsight.tuning.tracked import TrackedTrials

_EVERY = 0.2


def best_trial(study: "Study", folder: Path) -> "FrozenTrial":
    """Find the best of the trials that came to their end.

    Raises:
        SparsightError: none did.
    """
    number = best_number(study)
    if number is None:
        raise SparsightError(
            f"None of {len(study.trials)} trials came to its end, so there is no best one.",
            hint=f"What each of them said is in its log.txt below {folder}.",
        )
    return study.trials[number]


def hand_over(best: "FrozenTrial", plan: Plan, folder: Path, runs: "TrackedTrials", target: Path, name: str) -> str:
    """Copy the best trial's model, and register it; return its reference, such as `photos/3`.

    Where another tuning with the same study has trained it, it isn't here, and is trained once more.

    Args:
        best: the trial.
        plan: of the tuning.
        folder: in which trials work.
        runs: of trials, in MLflow.
        target: the model's folder.
        name: to register it under.

    Raises:
        SparsightError: it can't be trained again, or registered.
    """
    place = place_of(folder, best.number)
    if not (is_artefact(place.model) and place.lineage.is_file()):
        print(f"trial {best.number}, the best, was trained elsewhere; now it is here.", flush=True)
        _train(best, plan, place, runs)
    copy_artefact(place.model, target)
    lineage = Lineage.of_json(place.lineage.read_text(encoding="utf-8"))
    reference = register_model(target, name, lineage).reference
    print(f"Registered {reference}, of trial {best.number}", flush=True)
    return reference


def _train(best: "FrozenTrial", plan: Plan, place: Place, runs: "TrackedTrials") -> None:
    inputs = {**plan.given, **best.user_attrs[INPUTS]}
    share = share_of(0, 1, os.environ, visible_gpus())
    process = start_trial(plan.step, inputs, place, runs.open(best.number, None), share)
    with terminable():
        try:
            while (code := process.poll()) is None:
                time.sleep(_EVERY)
        finally:
            process.end()
    if code:
        raise SparsightError(f"Trial {best.number}, the best, failed this time: {reason_in(place.log)}")
