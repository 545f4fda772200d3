"""What a training step takes: its inputs by name, with their types and, where they are at hand, what is allowed."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from sparsight.errors import SparsightError

Scalar = bool | int | float | str
FOLDERS = frozenset({"probe_images", "validation_images", "base_model_folder"})
"""Inputs of training steps that are folders, beside the images: the same for all trials."""
_GIVEN = frozenset({"images", "model", "model_name"})
_ONE_PROCESS = frozenset({"processes", "instances"})
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True, kw_only=True)
class StepInput:
    """One input of a step.

    Attributes:
        name: of the input.
        kind: bool, int, float or str.
        least: smallest value allowed, of a number.
        most: largest value allowed.
        choices: the only values allowed; empty for no such list.
    """

    name: str
    kind: type
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()

    @classmethod
    def declared(cls, name: str, kind: type, port: Mapping[str, Any]) -> Self:
        """Take what is allowed from a component's declaration of an input."""
        return cls(
            name=name,
            kind=kind,
            least=port.get("min", -math.inf),
            most=port.get("max", math.inf),
            choices=tuple(map(str, port.get("enum", ()))),
        )

    def parse(self, text: str) -> Scalar:
        """Read a value as a YAML file writes it.

        Raises:
            SparsightError: it isn't of the input's type, or not allowed.
        """
        value = self._convert(text)
        if self.choices and str(value) not in self.choices:
            raise SparsightError(f"expected one of {', '.join(self.choices)}, found {text!r}.")
        if isinstance(value, int | float) and not self.least <= value <= self.most:
            bound = f"at least {self.least:g}" if value < self.least else f"at most {self.most:g}"
            raise SparsightError(f"expected {bound}, found {text}.")
        return value

    def _convert(self, text: str) -> Scalar:
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            value: Scalar = self.kind(text)
        except (KeyError, ValueError):
            value = math.nan
        if isinstance(value, float) and not math.isfinite(value):
            raise SparsightError(f"expected {_TYPES[self.kind]}, found {text!r}.")
        return value


def inputs_of(arguments: type[Any], component: Path | None) -> dict[str, StepInput]:
    """List what a trial of a step can be given: its inputs but folders, the model's name and numbers of processes.

    Args:
        arguments: the step's dataclass.
        component: its component.yml, which tells what is allowed; None where it isn't at hand, as on Azure ML, where
            the code alone is sent.
    """
    declared = _declared(component)
    hints = typing.get_type_hints(arguments)
    found = {}
    for field in dataclasses.fields(arguments):
        kind = _plain(hints[field.name])
        if kind is Path or field.name in _GIVEN | _ONE_PROCESS:
            continue
        found[field.name] = StepInput.declared(field.name, kind, declared.get(field.name, {}))
    return found


def folders_of(arguments: type[Any]) -> frozenset[str]:
    """Name the folders beside the images that a step takes."""
    return FOLDERS & {field.name for field in dataclasses.fields(arguments)}


def _plain(hint: Any) -> type:
    """Find the type of an argument: `X | None` is X."""
    if isinstance(hint, types.UnionType):
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    return typing.cast(type, hint)


def _declared(component: Path | None) -> Mapping[str, Mapping[str, Any]]:
    if component is None:
        return {}
    content: Mapping[str, Any] = yaml.safe_load(component.read_text(encoding="utf-8"))
    return typing.cast(Mapping[str, Mapping[str, Any]], content["inputs"])
