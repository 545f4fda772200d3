"""Checks a pipeline and its inputs before anything starts; finds all problems, not only the first."""

import dataclasses
import difflib
import graphlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sparsight.local.command import pasting_problem, placeholders
from sparsight.local.files import article
from sparsight.local.graph import DATA_TYPES, Data, Literal, Made, Pipeline, Port, Scalar, Setting, Step
from sparsight.local.problems import Problem, nearest

_COPY = "which `run` reads and `submit` uploads"
_TRUTH = {"true": True, "false": False}


def apply_settings(pipeline: Pipeline, pairs: Sequence[str], folder: Path) -> tuple[Pipeline, list[Problem]]:
    """Put `name=value` pairs in place of the pipeline's own input values.

    Args:
        pipeline: the pipeline as written.
        pairs: what was given with `--set`.
        folder: where relative data paths start.

    Returns:
        The pipeline with its new values, and what is wrong with the pairs.
    """
    settings = dict(pipeline.settings)
    problems: list[Problem] = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        where = f"--set {name}"
        if not equals:
            problems.append(Problem(f"--set {pair}", "expected name=value."))
        elif name not in settings:
            problems.append(Problem(where, f"the pipeline has no input {name!r}{nearest(name, settings)}"))
        elif isinstance(old := settings[name], Data):
            settings[name] = Data((folder / Path(text).expanduser()).resolve(), old.type, where)
        else:
            settings[name] = Literal(parse(text, setting_type(pipeline, name)), where)
    return dataclasses.replace(pipeline, settings=settings), problems


def setting_type(pipeline: Pipeline, name: str) -> str:
    """Name the type of a pipeline's input: that of the first step's input that takes it, or of its value."""
    for step, port in pipeline.readers(name):
        if port in step.ports:
            return step.ports[port].type
    value = pipeline.settings[name]
    if isinstance(value, Data):
        return value.type
    return {bool: "boolean", int: "integer", float: "number"}.get(type(value.value), "string")


def parse(text: str, kind: str) -> Scalar:
    """Read a value from the command line; a text that isn't of the type stays a text, for the checks to name."""
    if kind == "boolean":
        return _TRUTH.get(text.lower(), text)
    try:
        return int(text) if kind in {"integer", "number"} else text
    except ValueError:
        pass
    try:
        return float(text) if kind == "number" else text
    except ValueError:
        return text


def check(pipeline: Pipeline) -> Iterator[Problem]:
    """Find everything that would go wrong in a pipeline whose values are in place."""
    try:
        pipeline.order()
    except graphlib.CycleError as error:
        yield Problem(str(pipeline.file), f"steps wait for each other: {' -> '.join(error.args[1][::-1])}.")
    for source in pipeline.settings.values():
        if isinstance(source, Data):
            yield from _check_data(source)
    for step in pipeline.steps.values():
        yield from _check_step(pipeline, step)


def _check_step(pipeline: Pipeline, step: Step) -> Iterator[Problem]:
    yield from _check_template(step)
    if step.code is not None and not step.code.exists():
        yield Problem(step.where, f"the component's code folder {step.code} is not there.")
    quotes: dict[str, set[str]] = {}
    for kind, name, quote, _ in placeholders(step.command):
        if kind == "inputs":
            quotes.setdefault(name, set()).add(quote)
    for name, port in step.ports.items():
        if port.default is not None:
            text = value_problem(port.default, port)
            if text:
                yield Problem(f"{step.where}: default of component {step.component}'s {name}", text)
        source = pipeline.source(step, name)
        if source is None:
            if not port.optional and name not in step.broken:
                yield Problem(step.where, f"required input {name!r} ({port.type}) is missing.")
        elif isinstance(source, Literal):
            yield from _check_literal(step, name, port, source, sorted(quotes.get(name, {"'"})))
        else:
            yield from _check_path(pipeline, step, name, source)
            if isinstance(source, Data):
                yield from _check_pasting(source, sorted(quotes.get(name, {"'"})))


def _check_template(step: Step) -> Iterator[Problem]:
    for kind, name, _, optional in placeholders(step.command):
        known: Mapping[str, object] = step.ports if kind == "inputs" else step.outputs
        if name not in known:
            yield Problem(
                f"{step.where}: command of component {step.component}",
                f"unknown {kind[:-1]} {name!r}{nearest(name, known)}",
            )
        elif kind == "inputs" and step.ports[name].optional and not optional:
            yield Problem(
                f"{step.where}: command of component {step.component}",
                f"input {name!r} is optional, so it must stand in $[[ ]]: $[[--{name} ${{{{inputs.{name}}}}}]].",
            )


def _check_literal(step: Step, name: str, port: Port, source: Literal, quotes: Sequence[str]) -> Iterator[Problem]:
    reader = f" (for {step.name}'s {name})" if isinstance(step.sources.get(name), Setting) else ""
    if port.type in DATA_TYPES:
        yield Problem(source.where, f"expected {article(port.type)}, found the plain value {source.value!r}{reader}.")
    elif text := value_problem(source.value, port):
        yield Problem(source.where, f"{text[:-1]}{reader}.")
    elif text := next(filter(None, (pasting_problem(str(source.value), quote) for quote in quotes)), None):
        yield Problem(source.where, f"{source.value!r} {text}{reader}.")


def value_problem(value: Scalar, port: Port) -> str | None:
    """Say what is wrong with a plain value for an input, or None."""
    if not _has_type(value, port.type):
        hint = "; quote it in the YAML" if port.type == "string" else ""
        return f"expected {article(port.type)}, found {value!r}{hint}."
    if port.choices and str(value) not in port.choices:
        return f"expected one of {', '.join(port.choices)}, found {value!r}{_suggest(str(value), port.choices)}."
    if port.minimum is not None and float(value) < port.minimum:
        return f"expected at least {port.minimum:g}, found {value}."
    if port.maximum is not None and float(value) > port.maximum:
        return f"expected at most {port.maximum:g}, found {value}."
    return None


def _suggest(value: str, choices: Sequence[str]) -> str:
    hint = nearest(value, choices)
    return hint.rstrip("?").rstrip(".") + "?" * hint.endswith("?") if "did you mean" in hint else ""


def _has_type(value: Scalar, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN is no number
    return isinstance(value, str)


def _check_path(pipeline: Pipeline, step: Step, name: str, source: Data | Made) -> Iterator[Problem]:
    kind = step.ports[name].type
    where = source.where if isinstance(source, Data) else f"{step.where}.inputs.{name}"
    found = source.type if isinstance(source, Data) else _output_type(pipeline, source)
    if kind not in DATA_TYPES or (found != kind and "uri_file" in {found, kind}):
        yield Problem(where, f"expected {article(kind)} for {step.name}'s {name}, found {article(found)}.")
    if isinstance(source, Data) and not isinstance(step.sources[name], Setting):
        yield from _check_data(source)


def _output_type(pipeline: Pipeline, source: Made) -> str:
    return pipeline.steps[source.step].outputs[source.output]


def _check_pasting(source: Data, quotes: Sequence[str]) -> Iterator[Problem]:
    path = str(source.path)
    if text := next(filter(None, (pasting_problem(path, quote) for quote in quotes)), None):
        yield Problem(source.where, f"{path!r} {text}; rename or link it.")


def _check_data(source: Data) -> Iterator[Problem]:
    if source.is_remote:
        yield Problem(source.where, f"{source.path} is not on this machine; give the path of a local copy, {_COPY}.")
        return
    if not source.path.exists():
        siblings = [each.name for each in source.path.parent.iterdir()] if source.path.parent.is_dir() else []
        close = difflib.get_close_matches(source.path.name, siblings, n=1)
        hint = f"; did you mean {source.path.with_name(close[0])}?" if close else "."
        yield Problem(source.where, f"{source.path} is not there{hint}")
    elif source.type == "uri_file" and not source.path.is_file():
        yield Problem(source.where, f"{source.path} is a folder; expected a file (uri_file).")
    elif source.type == "uri_folder" and not source.path.is_dir():
        yield Problem(source.where, f"{source.path} is a file; expected a folder (uri_folder).")
