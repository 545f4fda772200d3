"""Flattens nested pipelines: finds what each binding of each level stands for, and what is wrong with it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsight.local.files import Document, component_of, nodes_of
from sparsight.local.graph import DATA_TYPES, Data, Distribution, Literal, Made, Port, Source, Step
from sparsight.local.problems import Problem, nearest

_INPUT = re.compile(r"^\$\{\{\s*parent\.inputs\.([\w.-]+)\s*\}\}$")
_OUTPUT = re.compile(r"^\$\{\{\s*parent\.jobs\.([\w-]+)\.outputs\.([\w-]+)\s*\}\}$")
_PARENT_OUTPUT = re.compile(r"^\$\{\{\s*parent\.outputs\.([\w-]+)\s*\}\}$")
_USUAL_SERVICES = ("azurite", "cosmos", "mlflow")
_SERVICES = (*_USUAL_SERVICES, "label-studio", "optuna-dashboard")
_CORES = 2
_SCALARS = (bool, int, float, str)


def plain_source(value: Any, where: str, folder: Path) -> Literal | Data | str | None:
    """Turn a value or a data input into a source; a text says what is wrong with it."""
    if value is None:
        return None
    if isinstance(value, _SCALARS):
        return Literal(value, where)
    path, kind = getattr(value, "path", None), str(getattr(value, "type", "uri_folder"))
    if not path:
        return "a data input needs a `path`."
    data = Data(Path(str(path)), kind, where)
    return data if data.is_remote else Data(Path(folder, str(path)).resolve(), kind, where)


@dataclass
class Scope:
    """One level of nesting: its nodes, and what its own inputs stand for in the level above."""

    document: Document
    prefix: str
    nodes: Mapping[str, Any]
    inputs: Mapping[str, Source]
    problems: list[Problem]
    declared: frozenset[str] | None = None
    children: dict[str, "Scope"] = field(default_factory=dict)
    written: dict[str, Document] = field(default_factory=dict)

    def enter(self) -> None:
        """Open the nested pipelines, and check each node's names against its component's."""
        self.written = dict(nodes_of(self.document))
        for name, node in self.nodes.items():
            if node.type not in {"command", "pipeline"}:
                self._blame(name, "type", f"a {node.type!r} step doesn't run here; command and pipeline steps do.")
                continue
            self._check_names(name, node)
            if node.type == "pipeline":
                document = component_of(self.written[name]) or self.written[name]
                inner = Scope(
                    document,
                    f"{self.prefix}{name}.",
                    node.component.jobs,
                    {},
                    self.problems,
                    frozenset(node.component.inputs),
                )
                self.children[name] = inner
                inner.enter()

    def steps(self) -> dict[str, Step]:
        """Flatten to command steps, by full name."""
        found: dict[str, Step] = {}
        for name, node in self.nodes.items():
            if name in self.children:
                child = self.children[name]
                child.inputs = self._sources(name, node, defaults=True)
                found.update(child.steps())
            elif node.type == "command":
                found[self.prefix + name] = self._step(name, node)
        return found

    def output_of(self, output: str) -> Made | None:
        """Find the step that makes this pipeline's output; None when no node is bound to it."""
        for name, node in self.nodes.items():
            for port, holder in node.outputs.items():
                match = _PARENT_OUTPUT.match(_binding(holder._to_job_output()))
                if match and match[1] == output:
                    return self._made(name, port)
        return None

    def _made(self, name: str, port: str) -> Made | None:
        if name in self.children:
            return self.children[name].output_of(port)
        return Made(self.prefix + name, port)

    def _step(self, name: str, node: Any) -> Step:
        component = node.component
        where = self.written[name].at()
        code = component.code
        sources = self._sources(name, node, defaults=False)
        written = self.written[name].content.get("inputs") or {}
        return Step(
            name=self.prefix + name,
            component=_component_name(self.written[name], name),
            where=where,
            command=component.command,
            code=Path(component.base_path, str(code)).resolve() if code else None,
            environment=_environment(component.environment),
            variables={
                key: str(value)
                for holder in (component, node)
                for key, value in (getattr(holder, "environment_variables", None) or {}).items()
            },
            deterministic=component.is_deterministic is not False,
            ports={key: _port(value) for key, value in component.inputs.items()},
            sources=sources,
            outputs={key: str(value.type) for key, value in component.outputs.items()},
            broken=frozenset(set(written) - set(sources)),
            services=self._services(name, component),
            cores=self._cores(name, component),
            distribution=_distribution(node),
        )

    def _sources(self, name: str, node: Any, *, defaults: bool) -> dict[str, Source]:
        sources: dict[str, Source] = {}
        for port, holder in node.inputs.items():
            where = self.written[name].at("inputs", port)
            source = self._source(holder._to_job_input(), where)
            declared = node.component.inputs.get(port)
            if source is None and defaults and declared is not None and declared.default is not None:
                source = Literal(declared.default, where)
            if source is not None:
                sources[port] = source
        return sources

    def _source(self, value: Any, where: str) -> Source | None:
        binding = _binding(value)
        if match := _INPUT.match(binding):
            return self._input(match[1], where)
        if match := _OUTPUT.match(binding):
            return self._output(match[1], match[2], where)
        if "${{" in binding:
            self.problems.append(
                Problem(
                    where,
                    f"{binding!r} is no binding; expected ${{{{parent.inputs.NAME}}}} "
                    "or ${{parent.jobs.STEP.outputs.NAME}}.",
                )
            )
            return None
        source = plain_source(value, where, self.document.file.parent)
        if isinstance(source, str):
            self.problems.append(Problem(where, source))
            return None
        return source

    def _input(self, name: str, where: str) -> Source | None:
        known = self.inputs if self.declared is None else self.declared
        if name not in known:
            self.problems.append(Problem(where, f"the pipeline has no input {name!r}{nearest(name, known)}"))
        return self.inputs.get(name)

    def _output(self, step: str, output: str, where: str) -> Source | None:
        if step not in self.nodes:
            self.problems.append(Problem(where, f"there is no step {step!r}{nearest(step, self.nodes)}"))
            return None
        outputs = list(self.nodes[step].component.outputs)
        if output not in outputs:
            self.problems.append(Problem(where, f"step {step!r} has no output {output!r}{nearest(output, outputs)}"))
            return None
        made = self._made(step, output)
        if made is None:
            self.problems.append(Problem(where, f"nothing in {step!r} is bound to its output {output!r}."))
        return made

    def _check_names(self, name: str, node: Any) -> None:
        written = self.written[name].content
        for kind, known in (("inputs", node.component.inputs), ("outputs", node.component.outputs)):
            for key, value in (written.get(kind) or {}).items():
                if key not in known:
                    self._blame(name, f"{kind}.{key}", f"unknown {kind[:-1]} {key!r}{nearest(key, known)}")
                match = _PARENT_OUTPUT.match(_binding(value)) if kind == "outputs" else None
                outputs = self.document.content.get("outputs") or {}
                if match and match[1] not in outputs:
                    text = f"the pipeline has no output {match[1]!r}{nearest(match[1], outputs)}"
                    self._blame(name, f"{kind}.{key}", text)

    def _services(self, name: str, component: Any) -> tuple[str, ...]:
        """Name the local services a component needs: its tag `services`, or the usual ones for our own steps."""
        named = (component.tags or {}).get("services")
        if named is None:
            return _USUAL_SERVICES if "sparsight.steps." in component.command else ()
        services = tuple(str(named).replace(",", " ").split())
        for each in services:
            if each not in _SERVICES:
                self._blame(name, "component.tags.services", f"unknown service {each!r}{nearest(each, _SERVICES)}")
        return services

    def _cores(self, name: str, component: Any) -> int:
        """Say how many cores a component keeps busy: its tag `cores`, a number or `all`; without it, two."""
        named = str((component.tags or {}).get("cores", _CORES))
        if named == "all":
            return os.cpu_count() or 1
        if not named.isdecimal():
            self._blame(name, "component.tags.cores", f"expected a whole number or all, found {named!r}.")
            return _CORES
        return int(named)

    def _blame(self, name: str, key: str, text: str) -> None:
        self.problems.append(Problem(self.written[name].at(key), text))


def _binding(value: Any) -> str:
    """Find the binding's text in any of its shapes: a text, a mapping or an Input/Output with a path."""
    if isinstance(value, Mapping):
        value = value.get("path")
    elif not isinstance(value, _SCALARS):
        value = getattr(value, "path", None)
    return value if isinstance(value, str) else ""


def _distribution(node: Any) -> Distribution:
    """Read what a node says, or the component where the node says nothing."""
    held = node.distribution or node.component.distribution
    nodes = getattr(node.resources or node.component.resources, "instance_count", None) or 1
    kind = str(getattr(held, "type", None) or "").lower()
    if kind == "tensorflow":
        return Distribution(kind, (held.worker_count or 1) + (held.parameter_server_count or 0))
    return Distribution(kind, getattr(held, "process_count_per_instance", None) or 1, int(nodes))


def _component_name(node: Document, name: str) -> str:
    component = component_of(node)
    return str(component.content.get("name", name)) if component and component is not node else name


def _environment(environment: Any) -> str:
    """Identify an environment by its content: azure-ai-ml's own hash, over image, conda file and build folder."""
    return environment if isinstance(environment, str) else str(getattr(environment, "version", None))


def _port(declared: Any) -> Port:
    kind = str(declared.type)
    return Port(
        type=kind,
        description=declared.description or "",
        default=None if kind in DATA_TYPES else declared.default,
        optional=bool(declared.optional),
        minimum=None if declared.min is None else float(declared.min),
        maximum=None if declared.max is None else float(declared.max),
        choices=tuple(str(choice) for choice in declared.enum or ()),
    )
