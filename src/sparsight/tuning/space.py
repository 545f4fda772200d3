"""The search space: a YAML file that says which inputs of a step are tried with which values, and when."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.data.marked_yaml import MarkedYaml, read_marked
from sparsight.errors import SparsightError
from sparsight.tuning.inputs import Scalar, StepInput

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

_MOST_BYTES = 1_000_000
_KINDS = {"choice", "int", "float"}
_KEYS = {*_KINDS, "log", "step", "when"}
_TAKES: Mapping[type, set[str]] = {
    bool: {"choice"},
    str: {"choice"},
    int: {"choice", "int"},
    float: {"choice", "float"},
}


@dataclass(frozen=True, kw_only=True)
class Searched:
    """An input that is searched.

    Attributes:
        name: of the input.
        distribution: Optuna's, of its values.
        when: values of other inputs, any of which each must have; else the step's own default is left in place.
    """

    name: str
    distribution: "BaseDistribution"
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    def applies(self, chosen: Mapping[str, Scalar]) -> bool:
        """Whether it is tried beside what was chosen so far."""
        return all(chosen.get(name) in values for name, values in self.when.items())


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What trials try: `fixed` inputs are the same in all, `searched` ones are suggested in their order."""

    fixed: Mapping[str, Scalar]
    searched: tuple[Searched, ...]

    def suggest(self, trial: "Trial") -> dict[str, Scalar]:
        """Let a trial's sampler choose its inputs, define-by-run: what was chosen decides what is asked next."""
        chosen = dict(self.fixed)
        for each in self.searched:
            if each.applies(chosen):
                chosen[each.name] = _suggest(trial, each)
        return chosen

    def told(self) -> dict[str, Any]:
        """All of it as JSON-able values: equal for equal spaces."""
        from optuna.distributions import distribution_to_json

        searched = [[each.name, distribution_to_json(each.distribution), dict(each.when)] for each in self.searched]
        return {"fixed": dict(self.fixed), "searched": searched}


def _suggest(trial: "Trial", searched: Searched) -> Scalar:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    name, chosen = searched.name, searched.distribution
    if isinstance(chosen, FloatDistribution):
        return trial.suggest_float(name, chosen.low, chosen.high, step=chosen.step, log=chosen.log)
    if isinstance(chosen, IntDistribution):
        return trial.suggest_int(name, chosen.low, chosen.high, step=chosen.step, log=chosen.log)
    assert isinstance(chosen, CategoricalDistribution)  # noqa: S101 -- for the type checker
    value: Scalar = trial.suggest_categorical(name, chosen.choices)  # type: ignore[assignment]
    return value


def read_space(file: Path, step: str, inputs: Mapping[str, StepInput]) -> SearchSpace:
    """Read a search space, as docs/tuning.md describes it.

    Args:
        file: the YAML.
        step: whose inputs they are, for messages.
        inputs: what can be given to it.

    Raises:
        SparsightError: it can't be read, or isn't one for this step; every line at fault is named.
    """
    marked = read_marked(file, most_bytes=_MOST_BYTES)
    if not isinstance(marked.content, dict):
        raise SparsightError(f"{marked.at()}: expected inputs of {step}, each with its values.")
    reader = _Reader(marked, step, inputs)
    for name, content in marked.content.items():
        reader.take(name, content)
    if reader.problems:
        count = "1 problem" if len(reader.problems) == 1 else f"{len(reader.problems)} problems"
        raise SparsightError("\n".join([f"{file}: {count}.", *(f"  - {problem}" for problem in reader.problems)]))
    if not reader.searched:
        raise SparsightError(
            f"{file} searches nothing: every input has one value.",
            hint="Give at least one several, such as `learning_rate: {float: [0.0001, 0.01], log: true}`.",
        )
    return SearchSpace(fixed=reader.fixed, searched=tuple(reader.searched.values()))


class _Reader:
    """Reads one input after the other, and collects what is wrong."""

    def __init__(self, marked: MarkedYaml, step: str, inputs: Mapping[str, StepInput]) -> None:
        self.marked, self.step, self.inputs = marked, step, inputs
        self.fixed: dict[str, Scalar] = {}
        self.searched: dict[str, Searched] = {}
        self.problems: list[str] = []

    def take(self, name: str, content: Any) -> None:
        """Read an input: one value for all trials, or a mapping of how it is searched."""
        try:
            if name not in self.inputs:
                raise SparsightError(f"{self.step} takes no such input; known: {', '.join(sorted(self.inputs))}.")
            if isinstance(content, str):
                self.fixed[name] = self.inputs[name].parse(content)
            else:
                self.searched[name] = self._searched(name, content)
        except SparsightError as error:
            self.problems.append(f"{self.marked.at(name)}: {name}: {error}")

    def _searched(self, name: str, content: Any) -> Searched:
        if not isinstance(content, dict):
            raise SparsightError("expected one value, or one of {choice: [...]}, {int: [...]}, {float: [...]}.")
        if unknown := [key for key in content if key not in _KEYS]:
            raise SparsightError(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}.")
        kinds = [key for key in content if key in _KINDS]
        takes = _TAKES[self.inputs[name].kind]
        if len(kinds) != 1 or kinds[0] not in takes:
            raise SparsightError(f"expected one of {', '.join(sorted(takes))}, found {', '.join(kinds) or 'none'}.")
        make = self._choice if kinds[0] == "choice" else self._range
        return Searched(
            name=name,
            distribution=make(self.inputs[name], content),
            when=self._when(content.get("when", {})),
        )

    def _choice(self, port: StepInput, content: Mapping[str, Any]) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        if extra := {"log", "step"} & set(content):
            raise SparsightError(f"a choice has no {min(extra)}.")
        values = tuple(port.parse(each) for each in _texts(content["choice"]))
        if len(set(values)) < len(values):
            raise SparsightError(f"the same choice stands twice in {', '.join(map(str, values))}.")
        return CategoricalDistribution(values)

    def _range(self, port: StepInput, content: Mapping[str, Any]) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        ends = _texts(content["int" if port.kind is int else "float"])
        if len(ends) != 2:
            raise SparsightError(f"expected the lowest and the highest value, found {len(ends)} values.")
        low, high = (port.parse(each) for each in ends)
        others: dict[str, Any] = {
            name: StepInput(name=name, kind=kind).parse(_texts(content[name])[0])
            for name, kind in (("log", bool), ("step", port.kind))
            if name in content
        }
        kind: Callable[..., BaseDistribution] = IntDistribution if port.kind is int else FloatDistribution
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a range that its step doesn't divide is only warned of
            try:
                return kind(low, high, **others)
            except UserWarning as error:
                raise SparsightError(f"steps of {others['step']} from {low} don't end at {high}.") from error
            except ValueError as error:
                raise SparsightError(str(error)) from error

    def _when(self, content: Any) -> dict[str, tuple[Scalar, ...]]:
        if not isinstance(content, dict):
            raise SparsightError("`when` expects inputs with their values, such as {optimizer: sgd}.")
        found = {}
        for name, values in content.items():
            if name not in self.fixed and name not in self.searched:
                raise SparsightError(f"`when` names {name!r}, which isn't above it in this file.")
            found[name] = tuple(self.inputs[name].parse(each) for each in _texts(values))
            self._check_possible(name, found[name])
        return found

    def _check_possible(self, name: str, values: tuple[Scalar, ...]) -> None:
        """Refuse a condition that no trial meets."""
        if name in self.fixed:
            possible = self.fixed[name] in values
        else:
            distribution = self.searched[name].distribution
            possible = all(_contains(distribution, value) for value in values)
        if not possible:
            raise SparsightError(f"`when` asks for {name}: {', '.join(map(str, values))}, which is never tried.")


def _contains(distribution: "BaseDistribution", value: Scalar) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def _texts(content: Any) -> list[str]:
    """Take a text for a list of one."""
    values = [content] if isinstance(content, str) else content
    if not isinstance(values, list) or not values or not all(isinstance(each, str) for each in values):
        raise SparsightError("expected a list of values, such as [1, 2].")
    return values
