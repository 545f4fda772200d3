"""Carries a tuning out: asks the study for trials, starts them side by side, follows, prunes and judges them."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sparsight.data.artefact import is_artefact
from sparsight.errors import SparsightError
from sparsight.evaluation.tuning_report import shown
from sparsight.guarded.step_process import StepProcess, terminable
from sparsight.tuning.inputs import Scalar
from sparsight.tuning.searching import best_number, is_sound, make_sampler, tell
from sparsight.tuning.space import SearchSpace
from sparsight.tuning.tracked import TrackedTrials
from sparsight.tuning.trial_process import Place, reason_in, share_of, start_trial, visible_gpus

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial, TrialState

INPUTS, FAILURE = "inputs", "failure"
"""What a trial's attributes in the study tell: its inputs, and why it failed."""
_RUN, _OWNER = "mlflow_run", "owner"
_EVERY = 0.5
"""Seconds between two looks at the trials."""
_FAILURES = 3
"""So many trials that fail before any succeeds end a tuning."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is tuned, and how.

    Attributes:
        step: the training step.
        given: its inputs that aren't the search space's: folders and the model's name.
        space: what is searched.
        trials: to have ended at the end, those of earlier tunings with the same study included.
        parallel: trials side by side.
        sampler: its name.
        startup_trials: at random.
        seed: of the sampler.
    """

    step: str
    given: Mapping[str, str | Path]
    space: SearchSpace
    trials: int
    parallel: int
    sampler: str
    startup_trials: int
    seed: int


@dataclass(kw_only=True)
class _Running:
    trial: "Trial"
    inputs: Mapping[str, Scalar]
    place: Place
    run_id: str
    slot: int
    process: StepProcess
    reported: set[int] = field(default_factory=set)


class Tuner:
    """One tuning.

    Args:
        plan: what to do.
        study: what is known of its trials.
        folder: in which trials work; it must be the same after an interruption, for trials to be taken up.
        runs: of trials, in MLflow.
    """

    def __init__(self, plan: Plan, study: "Study", folder: Path, runs: TrackedTrials) -> None:
        self.plan, self.study, self.folder, self.runs = plan, study, folder, runs
        self.running: dict[int, _Running] = {}
        self.gpus = visible_gpus()
        self.failures, self.worked = 0, any(is_sound(trial) for trial in study.get_trials(deepcopy=False))
        self.warned, self.more = False, True

    def carry_out(self) -> None:
        """Run trials until there are as many as planned. Interrupted, those that ran can be taken up again.

        Raises:
            SparsightError: trials fail one after the other, or the step tracks no such metric.
        """
        waiting = self._interrupted()
        with terminable():
            try:
                while self._start_some(waiting):
                    time.sleep(_EVERY)
                    for each in list(self.running.values()):
                        self._look(each)
            finally:
                for each in self.running.values():
                    each.process.ask_to_end()
                for each in self.running.values():
                    each.process.end()

    def _start_some(self, waiting: "Iterator[FrozenTrial]") -> bool:
        """Start trials where there is room, first those that were interrupted; False where none runs."""
        from optuna.trial import Trial

        while len(self.running) < self.plan.parallel:
            if before := next(waiting, None):
                self._start(Trial(self.study, before._trial_id), before)
            elif self.more and self._ended() + len(self.running) < self.plan.trials:
                number = len(self.study.trials)
                self.study.sampler = make_sampler(self.plan.sampler, self.plan.seed, number, self.plan.startup_trials)
                self._start(self.study.ask(), None)
            else:
                break
        return bool(self.running)

    def _ended(self) -> int:
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _interrupted(self) -> "Iterator[FrozenTrial]":
        """Trials that this tuning had begun before it was interrupted. Others' may be running elsewhere."""
        from optuna.trial import TrialState

        unfinished = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        mine = [trial for trial in unfinished if trial.user_attrs.get(_OWNER) == str(self.folder)]
        if others := len(unfinished) - len(mine):
            print(f"note: {others} trials of this study that others began haven't ended; they are left alone.")
        return iter(mine)

    def _start(self, trial: "Trial", before: "FrozenTrial | None") -> None:
        trial.set_user_attr(_OWNER, str(self.folder))
        inputs = self.plan.space.suggest(trial)  # of an interrupted one, the same again
        run_id = self.runs.open(trial.number, before.user_attrs.get(_RUN) if before else None)
        trial.set_user_attr(INPUTS, inputs)
        trial.set_user_attr(_RUN, run_id)
        place = place_of(self.folder, trial.number)
        if is_artefact(place.model) and self.runs.final(run_id) is None:
            shutil.rmtree(place.model)  # finished, but cut off before MLflow knew all of it
        slot = min(set(range(self.plan.parallel)) - {each.slot for each in self.running.values()})
        reported = set(before.intermediate_values) if before else set()
        self.running[trial.number] = _Running(
            trial=trial,
            inputs=inputs,
            place=place,
            run_id=run_id,
            slot=slot,
            process=start_trial(self.plan.step, {**self.plan.given, **inputs}, place, run_id, self._share(slot)),
            reported=reported,
        )
        self._say(trial.number, ("taken up: " if before else "") + told(inputs, self.plan.space))

    def _share(self, slot: int) -> dict[str, str]:
        return share_of(slot, self.plan.parallel, os.environ, self.gpus)

    def _look(self, running: _Running) -> None:
        """Report what a trial measured since the last look; end it where the pruner says so, and once it has ended."""
        code = running.process.poll()  # before its numbers are read, so that those of an ended one are complete
        values = self.runs.values(running.run_id)
        for epoch in sorted(set(values) - running.reported):
            running.trial.report(values[epoch], epoch)
            running.reported.add(epoch)
            if code is None and running.trial.should_prune():
                self._prune(running, epoch, values[epoch])
                return
        if code is not None:
            self._end(running, code)
        elif not values:
            self._warn(running)

    def _prune(self, running: _Running, epoch: int, value: float) -> None:
        from optuna.trial import TrialState

        running.process.end()
        self.runs.end(running.run_id, "KILLED")
        self._tell(running, TrialState.PRUNED)
        self._say(running.trial.number, f"pruned after epoch {epoch}: {self.runs.metric} {value:.4g}")

    def _end(self, running: _Running, code: int) -> None:
        from optuna.trial import TrialState

        value = None if code else self.runs.final(running.run_id)
        if code == 0 and value is None:
            self._tell(running, TrialState.FAIL)
            raise self._no_metric(running)
        if value is None or value != value:
            self._fail(running, reason_in(running.place.log) if code else f"{self.runs.metric} is {value}")
            return
        self._tell(running, TrialState.COMPLETE, value)
        self._say(running.trial.number, f"{self.runs.metric} {value:.4g}")

    def _fail(self, running: _Running, reason: str) -> None:
        from optuna.trial import TrialState

        self.runs.end(running.run_id, "FAILED")
        running.trial.set_user_attr(FAILURE, reason)
        self._tell(running, TrialState.FAIL)
        self._say(running.trial.number, f"failed: {reason}")
        self.failures += 1
        if not self.worked and self.failures >= _FAILURES:
            raise SparsightError(
                f"The first {_FAILURES} trials failed, so the tuning ends. The last one said: {reason}",
                hint=f"All that it said: {running.place.log}",
            )

    def _tell(self, running: _Running, state: "TrialState", value: float | None = None) -> None:
        """Tell the study how a trial ended, and keep no model of those that ended but the best."""
        from optuna.trial import TrialState

        self.more = tell(self.study, running.trial.number, state, value) and self.more
        del self.running[running.trial.number]
        self.worked = self.worked or state != TrialState.FAIL
        trials = self.study.get_trials(deepcopy=False)
        best = best_number(self.study)
        for number in (trial.number for trial in trials if trial.state.is_finished() and trial.number != best):
            for model in (place_of(self.folder, number).model, draft_of(self.folder, number)):
                shutil.rmtree(model, ignore_errors=True)

    def _warn(self, running: _Running) -> None:
        """Say early that a name may be wrong; a probe may be due only every few epochs."""
        if not self.warned and (others := self.runs.others(running.run_id)):
            self.warned = True
            print(f"note: no {self.runs.metric} yet; after its first epochs the step tracks {', '.join(others)}.")

    def _no_metric(self, running: _Running) -> SparsightError:
        others = ", ".join(self.runs.others(running.run_id)) or "nothing"
        return SparsightError(
            f"{self.plan.step} tracks no {self.runs.metric!r} over epochs; it tracks {others}.",
            hint="Give one of these as metric. Numbers of test images aren't among them: tuning would spoil the test.",
        )

    def _say(self, number: int, text: str) -> None:
        print(f"trial {number}: {text}", flush=True)


def place_of(folder: Path, number: int) -> Place:
    """Say where a trial works, of those that work in a folder."""
    return Place(folder=folder / str(number))


def draft_of(folder: Path, number: int) -> Path:
    """Say where a trial's unfinished model is."""
    model = place_of(folder, number).model
    return model.with_name(f"{model.name}.partial")


def told(inputs: Mapping[str, Scalar], space: SearchSpace) -> str:
    """Write what a trial tries, without what is the same in all."""
    names = [each.name for each in space.searched if each.name in inputs]
    return ", ".join(f"{name} {shown(inputs[name])}" for name in names)
