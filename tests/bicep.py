"""Reads Bicep as tests need it: resources, modules, parameters and outputs, with expressions told as short texts.

This knows the grammar (pycep-parser) and nothing of Azure's types: a property that Azure doesn't know passes. The Bicep
compiler isn't among the packages that `make` installs.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pycep


@dataclass(frozen=True, kw_only=True)
class Block:
    """A resource or a module.

    Args:
        symbol: its name in the file.
        kind: type of a resource, path of a module.
        body: its properties, out of a condition or loop.
        condition: what it takes to be deployed, as a text; empty for always.
        existing: the file only refers to it.
    """

    symbol: str
    kind: str
    body: Mapping[str, Any]
    condition: str = ""
    existing: bool = False


@dataclass(frozen=True, kw_only=True)
class Template:
    """A Bicep file."""

    path: Path
    parameters: Mapping[str, Mapping[str, Any]]
    variables: Mapping[str, Any]
    resources: Mapping[str, Block]
    modules: Mapping[str, Block]
    outputs: Mapping[str, Any]

    @property
    def required(self) -> set[str]:
        """Parameters without a default. (An explicit null can't be told from none, and isn't used.)"""
        return {name for name, each in self.parameters.items() if each["default"] is None}

    def default(self, parameter: str) -> Any:
        return self.parameters[parameter]["default"]

    def allowed(self, parameter: str) -> list[Any]:
        decorators = self.parameters[parameter]["decorators"]
        return next((each["argument"] for each in decorators if each["type"] == "allowed"), [])

    def of_type(self, kind: str) -> list[Block]:
        """Resources of a type that this file makes."""
        return [each for each in self.resources.values() if each.kind == kind and not each.existing]

    def file_of(self, module: Block) -> Path:
        return (self.path.parent / module.kind).resolve()


@cache
def read(path: Path) -> Template:
    content = pycep.BicepParser().parse(file_path=path)
    return Template(
        path=path,
        parameters=content.get("parameters", {}),
        variables={name: each["value"] for name, each in content.get("variables", {}).items()},
        resources={name: _block(name, each, each["type"]) for name, each in content.get("resources", {}).items()},
        modules={name: _block(name, each, each["detail"]["path"]) for name, each in content.get("modules", {}).items()},
        outputs={name: each["value"] for name, each in content.get("outputs", {}).items()},
    )


def _block(symbol: str, content: Mapping[str, Any], kind: str) -> Block:
    body, condition = content["config"], None
    while "config" in body and ("condition" in body or "loop_type" in body):
        condition = condition or body.get("condition")
        body = body["config"]
    existing = bool(content.get("existing"))
    return Block(symbol=symbol, kind=kind, body=body, condition=text(condition or ""), existing=existing)


def text(value: Any) -> str:
    """An expression as a text: `account.id`, `roles[AcrPull]`, `guid(a.id, b)`; strings without their quotes."""
    if isinstance(value, Mapping) and "operator" in value:
        return _operation(value["operator"])
    if isinstance(value, Mapping) and "function" in value:
        given = value["function"]["parameters"].values()
        return f"{value['function']['type']}({', '.join(text(each) for each in given if each is not None)})"
    return str(value)


def _operation(operator: Mapping[str, Any]) -> str:
    operands = [text(each) for each in operator["operands"].values()]
    match operator["type"]:
        case "property_accessor":
            return ".".join(operands)
        case "index_accessor":
            return f"{operands[0]}[{operands[1]}]"
        case _:
            return f"{operator['type']}({', '.join(operands)})"


def expressions(value: Any) -> Iterator[str]:
    """Every expression in a value, the parts of compound ones included, as texts."""
    yield text(value)
    if isinstance(value, Mapping):
        for each in value.values():
            yield from expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from expressions(each)


def read_values(path: Path) -> tuple[Path, dict[str, Any]]:
    """Take a .bicepparam file of plain values apart: the template it is for, and its values.

    Raises:
        ValueError: a line that isn't a comment, `using 'FILE'` or `param NAME = VALUE`.
    """
    used, values = None, {}
    for line in filter(None, (line.partition("//")[0].strip() for line in path.read_text().splitlines())):
        if found := re.fullmatch(r"using '([^']+)'", line):
            used = (path.parent / found[1]).resolve()
        elif found := re.fullmatch(r"param (\w+) = ('[^']*'|\d+|true|false)", line):
            values[found[1]] = _literal(found[2])
        else:
            raise ValueError(f"{path.name}: {line}")
    if used is None:
        raise ValueError(f"{path.name} says for no template that it is")
    return used, values


def _literal(written: str) -> str | int | bool:
    if written in {"true", "false"}:
        return written == "true"
    return written.strip("'") if written.startswith("'") else int(written)
