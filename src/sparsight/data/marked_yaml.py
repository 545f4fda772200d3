"""YAML that people write, read as they wrote it: texts stay texts, and every place keeps its line for messages."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sparsight.errors import SparsightError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = "tag:yaml.org,2002:null"

Place = tuple[str, ...]
"""The keys that lead to a value, from the outermost on."""


@dataclass(frozen=True)
class MarkedYaml:
    """A YAML file's content, and the line at which each place of it stands.

    Attributes:
        file: where it was read.
        content: mappings, lists, texts and None; keys and values are texts as they are written, so `0` and `No` are
            texts, too.
        lines: by place, counted from 1.
    """

    file: Path
    content: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def at(self, *place: str) -> str:
        """Name a place for a message: `taxonomy.yml, line 7`; of a place that isn't there, the nearest around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.file}, line {self.lines.get(place, 1)}"


def read_marked(file: Path, *, most_bytes: int) -> MarkedYaml:
    """Read a YAML file.

    Raises:
        SparsightError: it is missing or too large, isn't YAML, holds a key twice, or uses anchors.
    """
    try:
        if file.stat().st_size > most_bytes:
            raise SparsightError(f"{file} has {file.stat().st_size:,} bytes; expected {most_bytes:,} or fewer.")
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise SparsightError(f"{file} can't be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SparsightError(f"{file} can't be read as YAML: {error}") from error
    marked = MarkedYaml(file, None)
    return MarkedYaml(file, None if root is None else _Walk(marked).value(root, ()), marked.lines)


class _Walk:
    """Turns YAML's nodes into values. An anchor shows as a node met twice; unfolding those can take all memory."""

    def __init__(self, marked: MarkedYaml) -> None:
        self.marked = marked
        self.met: set[int] = set()

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.marked.lines.setdefault(place, node.start_mark.line + 1)
        if id(node) in self.met:
            raise SparsightError(f"{self.marked.at(*place)}: anchors (&, *) aren't taken.", hint="Write it out.")
        self.met.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each, (*place, str(number))) for number, each in enumerate(node.value)]
        return None if node.tag == _NULL else node.value

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise SparsightError(f"{self.marked.file}, line {line}: a key must be a text.")
            inner = (*place, key.value)
            if key.value in content:
                first = self.marked.lines[inner]
                raise SparsightError(
                    f"{self.marked.file}, line {line}: {key.value!r} is there already, in line {first}."
                )
            self.marked.lines[inner] = line
            content[key.value] = self.value(value, inner)
        return content
