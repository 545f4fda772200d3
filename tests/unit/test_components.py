"""Each component's contract and its step's command line are one and the same."""

import dataclasses
import importlib
import types
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPONENTS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.yml"))
TYPES = {"integer": int, "number": float, "string": str, "boolean": bool, "uri_folder": Path, "uri_file": Path}


def component(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "components" / name / "component.yml").read_text())


def arguments(name: str) -> dict[str, tuple[type, Any]]:
    """Name -> type and default of a step's arguments."""
    step = importlib.import_module(f"sparsight.steps.{name}")
    hints = typing.get_type_hints(step.Arguments)
    found = {}
    for field in dataclasses.fields(step.Arguments):
        hint = hints[field.name]
        if isinstance(hint, types.UnionType):
            hint = next(member for member in typing.get_args(hint) if member is not type(None))
        found[field.name] = (hint, field.default)
    return found


def test_there_are_components() -> None:
    assert {"connect_db", "data_prep", "train_moco", "train_classifier", "compare"} <= set(COMPONENTS)


@pytest.mark.parametrize("name", COMPONENTS)
def test_inputs_and_outputs_are_the_steps_arguments(name: str) -> None:
    content = component(name)
    declared = {
        key: (TYPES[value["type"]], value.get("default", None if value.get("optional") else dataclasses.MISSING))
        for key, value in content["inputs"].items()
    }
    declared |= dict.fromkeys(content["outputs"], (Path, dataclasses.MISSING))
    assert declared == arguments(name)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_input_is_described_and_every_default_allowed(name: str) -> None:
    content = component(name)
    assert content["description"]
    assert isinstance(content["is_deterministic"], bool)
    assert (ROOT / "components" / name / content["code"]).resolve() == ROOT / "src"
    for key, value in content["inputs"].items():
        assert len(value["description"]) > 10, key
        default = value.get("default")
        if default is not None:
            assert value.get("min", default) <= default <= value.get("max", default), key
            assert default in value.get("enum", [default]), key
    assert all(len(value["description"]) > 10 for value in content["outputs"].values())


@pytest.mark.parametrize("name", COMPONENTS)
def test_steps_in_several_processes_say_so_once_on_azure_ml_and_here(name: str) -> None:
    content = component(name)
    sizes = {"processes", "instances"} & set(content["inputs"])
    assert ("distribution" in content) == bool(sizes)
    if sizes:
        assert content["distribution"] == {"type": "mpi", "process_count_per_instance": 1}
        assert content["resources"]["instance_count"] == 1
        assert all(content["inputs"][each]["default"] == 1 for each in sizes)


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_command_passes_every_input_and_quotes_text(name: str) -> None:
    content = component(name)
    command = content["command"]
    assert f"python -m sparsight.steps.{name} " in command
    for key, value in content["inputs"].items():
        reference = "${{inputs." + key + "}}"
        text = value["type"] in {"string", "uri_folder", "uri_file"}
        flag = f"--{key} '{reference}'" if text else f"--{key} {reference}"
        if value.get("optional"):
            flag = f"$[[{flag}]]"
        assert flag in command, key
    for key in content["outputs"]:
        assert f"--{key} '${{{{outputs.{key}}}}}'" in command
