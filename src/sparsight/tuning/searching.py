"""Samplers and pruners by name, and the study that they work on."""

import json
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

Direction = Literal["maximise", "minimise"]
_TUNED = "sparsight.tuned"
_DIRECTIONS: Mapping[Direction, Literal["maximize", "minimize"]] = {"maximise": "maximize", "minimise": "minimize"}


def make_sampler(name: str, seed: int, number: int, startup_trials: int) -> "BaseSampler":
    """Make the sampler that chooses one trial's inputs.

    Each trial gets a sampler of its own, seeded by its number, so that a study that is gone on with neither begins the
    same random numbers again, nor becomes another one.

    Args:
        name: tpe, gp, random, qmc or brute_force.
        seed: of the tuning.
        number: of the trial.
        startup_trials: that are sampled at random before others learn from them.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        makers: dict[str, Callable[[], BaseSampler]] = {
            "tpe": lambda: samplers.TPESampler(n_startup_trials=startup_trials, seed=own),
            "gp": lambda: samplers.GPSampler(n_startup_trials=startup_trials, seed=own),
            "random": lambda: samplers.RandomSampler(seed=own),
            # Its seed is that of a sequence, in which the study remembers how far it is.
            "qmc": lambda: samplers.QMCSampler(scramble=True, seed=seed, warn_asynchronous_seeding=False),
            "brute_force": lambda: samplers.BruteForceSampler(seed=own),
        }
        return makers[name]()


def make_pruner(name: str, startup_trials: int, warmup_epochs: int) -> "BasePruner":
    """Make a pruner.

    Args:
        name: none, median, successive_halving or hyperband.
        startup_trials: that run to their end before the median prunes.
        warmup_epochs: that every trial is given.
    """
    from optuna import pruners

    least = max(1, warmup_epochs)
    makers: dict[str, Callable[[], BasePruner]] = {
        "none": pruners.NopPruner,
        "median": lambda: pruners.MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_epochs),
        "successive_halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=least),
        "hyperband": lambda: pruners.HyperbandPruner(min_resource=least),
    }
    return makers[name]()


def open_study(
    storage: "BaseStorage", name: str, direction: Direction, pruner: "BasePruner", tuned: Mapping[str, Any]
) -> "Study":
    """Open the study of a name, or make it.

    Args:
        storage: where it is kept.
        name: of the study.
        direction: in which its values are better.
        pruner: ends trials early.
        tuned: what is tuned, as JSON-able values, `metric` among them: a study holds trials of one thing only.

    Raises:
        SparsightError: there is a study of this name, of something else.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=_DIRECTIONS[direction],
        pruner=pruner,
        load_if_exists=True,
    )
    before, now = study.user_attrs.get(_TUNED), json.loads(json.dumps({**tuned, "direction": direction}))
    if before is None:
        study.set_user_attr(_TUNED, now)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([tuned["metric"]])  # as the dashboard shows it
    elif differing := [key for key in now if before.get(key) != now[key]]:
        raise SparsightError(
            f"The study {name!r} is of something else: it differs in {', '.join(differing)}.",
            hint="Give another name as study, or new for one of its own.",
        )
    return study


def tell(study: "Study", number: int, state: "TrialState", value: float | None = None) -> bool:
    """Tell a study how a trial ended; return whether its sampler has anything left to try."""
    try:
        study.tell(number, value, state=state)
    except RuntimeError:
        # Brute force that is through ends the loop of Optuna's own, which isn't used here, after the trial was told.
        if study.trials[number].state != state:
            raise
        return False
    return True


def is_sound(trial: "FrozenTrial") -> bool:
    """Whether a trial came to its end, or was only pruned."""
    from optuna.trial import TrialState

    return trial.state in {TrialState.COMPLETE, TrialState.PRUNED}


def best_number(study: "Study") -> int | None:
    """Number the best of the trials that came to their end; None where none did."""
    try:
        return study.best_trial.number
    except ValueError:
        return None
