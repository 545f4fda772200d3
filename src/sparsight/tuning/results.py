"""What a study came to, as a report tells it."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sparsight.evaluation.tuning_report import TrialResult, TuningResult
from sparsight.tuning.space import SearchSpace
from sparsight.tuning.tuner import FAILURE, INPUTS

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

LEAST_FOR_IMPORTANCE = 10
"""Trials that came to their end, below which nothing is said about which inputs matter."""
_TOP = 5
"""Trials that the best part of all should have at least."""


def result_of(study: "Study", space: SearchSpace, parameters: Mapping[str, Any], model: str) -> TuningResult:
    """Gather what a study came to.

    Args:
        study: with a trial that came to its end.
        space: what was searched.
        parameters: of the tuning, by name: step, metric and direction among them.
        model: reference of the best one.
    """
    ended = [trial for trial in study.trials if trial.state.is_finished()]
    return TuningResult(
        study=study.study_name,
        parameters=parameters,
        fixed=space.fixed,
        searched=[each.name for each in space.searched],
        trials=[_trial(trial, space) for trial in ended],
        best_number=study.best_trial.number,
        importances=importances(study),
        model=model,
    )


def importances(study: "Study") -> dict[str, float]:
    """Tell how much each input decides about a trial being among the best; the sum is 1. Too few trials tell nothing.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255), which knows inputs that aren't tried in all trials, over the
    best tenth, or the best five.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(complete) < LEAST_FOR_IMPORTANCE:
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, _TOP / len(complete)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where all trials are equally good
        found: dict[str, float] = get_param_importances(study, evaluator=evaluator)
    return found


def _trial(trial: "FrozenTrial", space: SearchSpace) -> TrialResult:
    inputs = trial.user_attrs.get(INPUTS, {})
    return TrialResult(
        number=trial.number,
        state=trial.state.name.lower(),
        value=trial.value if trial.state.name == "COMPLETE" else None,
        inputs={each.name: inputs[each.name] for each in space.searched if each.name in inputs},
        epochs=dict(sorted(trial.intermediate_values.items())),
        failure=trial.user_attrs.get(FAILURE, ""),
    )
