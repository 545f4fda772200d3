"""A taxonomy as people write it: one YAML file, read strictly, every mistake told with its line; and written."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from sparsight.data.labels import Path, join_path, split_path
from sparsight.data.marked_yaml import MarkedYaml, read_marked
from sparsight.data.taxonomy import Node, Taxonomy
from sparsight.data.taxonomy_checks import contradictions
from sparsight.errors import SparsightError

ANY = "any"
_MOST_BYTES = 16 * 2**20
_SHOWN = 20

_Empty = BeforeValidator(lambda value: {} if value is None else value)


def _any_or(value: object) -> object:
    return None if value == ANY else {} if value is None else value


class _Node(BaseModel):
    """One node's keys."""

    model_config = ConfigDict(extra="forbid")

    names: Annotated[dict[str, str], _Empty] = Field(default_factory=dict)
    reject: bool = False


class _File(BaseModel):
    """The file's keys; `nodes` is None where it says `any`."""

    model_config = ConfigDict(extra="forbid")

    nodes: Annotated[dict[str, Annotated[_Node, _Empty]] | None, BeforeValidator(_any_or)]
    retired: Annotated[dict[str, str | None], _Empty] = Field(default_factory=dict)


_KEYS = {0: tuple(_File.model_fields), 2: tuple(_Node.model_fields)}
"""The keys known at each depth; between them stand nodes' paths."""
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "string_type": "a text",
}


def read_taxonomy(file: FilePath) -> Taxonomy:
    """Read a taxonomy; see `Taxonomy.read`."""
    marked = read_marked(file, most_bytes=_MOST_BYTES)
    try:
        content = _File.model_validate({} if marked.content is None else marked.content)
    except ValidationError as error:
        raise _refused(file, [_shape_problem(marked, each) for each in error.errors()]) from error
    retired_places = _places(marked, "retired", content.retired)
    places = {**retired_places, **_places(marked, "nodes", content.nodes or {})}
    taxonomy = Taxonomy(
        nodes=None
        if content.nodes is None
        else {split_path(text): _node(each) for text, each in content.nodes.items()},
        retired={split_path(text): None if to is None else split_path(to) for text, to in content.retired.items()},
    )
    if problems := [f"{marked.at(*places[path])}: {text}" for path, text in contradictions(taxonomy)]:
        raise _refused(file, problems)
    return taxonomy


def _node(content: _Node) -> Node:
    return Node(content.names, content.reject)


def _places(marked: MarkedYaml, section: str, texts: Iterable[str]) -> dict[Path, tuple[str, str]]:
    """Find where each path of a section stands; a `/` in a name can be written in two ways, but only once."""
    places: dict[Path, tuple[str, str]] = {}
    for text in texts:
        place = places.setdefault(split_path(text), (section, text))
        if place != (section, text):
            raise _refused(marked.file, [f"{marked.at(section, text)}: {text!r} is {place[1]!r} once more."])
    return places


def _shape_problem(marked: MarkedYaml, error: ErrorDetails) -> str:
    """Say what is wrong with a key or value, for people."""
    place = tuple(str(key) for key in error["loc"] if key != "[key]")
    where, key = marked.at(*place), place[-1] if place else ""
    if error["type"] == "extra_forbidden":
        known = _KEYS[len(place) - 1]
        near = difflib.get_close_matches(key, known, n=1)
        return f"{where}: unknown key {key!r}" + (
            f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}."
        )
    if error["type"] == "missing":
        return f"{where}: {key!r} is missing; list the nodes below it, or write `{key}: {ANY}`."
    expected = _EXPECTED.get(error["type"], error["msg"])
    return f"{where}: {key or 'the file'} is {_shown(error['input'])}; expected {expected}."


def _shown(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return kinds.get(type(value), repr(value))


def _refused(file: FilePath, problems: Sequence[str]) -> SparsightError:
    more = len(problems) - _SHOWN
    lines = [*problems[:_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
    count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
    return SparsightError("\n".join([f"{file}: {count}.", *(f"  - {line}" for line in lines)]))


def taxonomy_text(taxonomy: Taxonomy, counts: Mapping[Path, int] | None = None) -> str:
    """Write a taxonomy's file.

    Args:
        taxonomy: what to write.
        counts: how often labels were given; said in a comment beside their nodes.
    """
    if taxonomy.nodes is None:
        lines = [f"nodes: {ANY}"]
    else:
        lines = ["nodes:", *(line for path in taxonomy.nodes for line in _node_lines(taxonomy, path, counts or {}))]
    if taxonomy.retired:
        lines += ["retired:", *(f"  {_quoted(join_path(old))}:{_value(new)}" for old, new in taxonomy.retired.items())]
    return "\n".join(lines) + "\n"


def _node_lines(taxonomy: Taxonomy, path: Path, counts: Mapping[Path, int]) -> Iterator[str]:
    node = (taxonomy.nodes or {})[path]
    count = f"  # {counts[path]:,}" if path in counts else ""
    yield f"  {_quoted(join_path(path))}:{count}"
    if node.names:
        names = ", ".join(f"{language}: {_quoted(name)}" for language, name in node.names.items())
        yield f"    names: {{{names}}}"
    if node.reject:
        yield "    reject: true"


def _value(path: Path | None) -> str:
    return "" if path is None else f" {_quoted(join_path(path))}"


def _quoted(text: str) -> str:
    """Write a text as YAML on one line, in quotes where it needs them."""
    flow = yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=float("inf"))
    return str(flow).strip()[1:-1]
