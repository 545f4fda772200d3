"""The taxonomy: which labels there are, as nodes by path; which are retired, and which reject a photo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Literal

from sparsight.data.labels import Path

if TYPE_CHECKING:
    from sparsight.data.label_review import LabelReview

Standing = Literal["known", "retired", "dropped", "unknown"]


@dataclass(frozen=True)
class Node:
    """What a taxonomy says of one node: its names for people, by language, and whether it rejects a photo."""

    names: Mapping[str, str] = field(default_factory=dict)
    reject: bool = False


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """The labels there are, as a tree; each node is named by its path from the first level down.

    Attributes:
        nodes: in the order in which people are offered them; a node's parent is there, too. None lists nothing: then
            every label is known.
        retired: paths that aren't used any more, and the node that took their place; None where nothing did.

    Example:
        >>> taxonomy = Taxonomy.read(Path("taxonomy.yml"))
        >>> taxonomy.resolve(("cell", "broken"))
        ('cell', 'defective')
    """

    nodes: Mapping[Path, Node] | None
    retired: Mapping[Path, Path | None] = field(default_factory=dict)

    @staticmethod
    def read(file: FilePath) -> "Taxonomy":
        """Read a taxonomy's file, as docs/taxonomy.md describes it.

        Raises:
            SparsightError: it can't be read, or contradicts itself; the message names every line at fault.
        """
        from sparsight.data.taxonomy_file import read_taxonomy

        return read_taxonomy(file)

    def resolve(self, path: Sequence[str]) -> Path | None:
        """Find the node that a label means today, following successors; None where it is dropped or unknown."""
        return self.look_up(path)[0]

    def look_up(self, path: Sequence[str]) -> tuple[Path | None, Standing]:
        """Find the node that a label means today, and say how the label stands.

        What lay below a retired node is looked for below its successor, under the same name.

        Returns:
            The node, or None; and whether the label is that node itself (`known`), is `retired` in favour of it, is
            `dropped`, since it was retired without a successor, or is `unknown`.
        """
        label = tuple(path)
        standing: Standing = "known"
        for _ in range(len(self.retired) + 1):  # successors in a circle end as unknown
            node = next((label[:depth] for depth in range(len(label), 0, -1) if label[:depth] in self.retired), None)
            if node is None:
                return (label, standing) if self._lists(label) else (None, "unknown")
            successor = self.retired[node]
            if successor is None:
                return None, "dropped"
            label, standing = (*successor, *label[len(node) :]), "retired"
        return None, "unknown"

    def _lists(self, label: Path) -> bool:
        return bool(label) and (self.nodes is None or label in self.nodes)

    def check(self, counts: Mapping[Path, int]) -> "LabelReview":
        """Hold labels in use against the taxonomy.

        Args:
            counts: how often each label was given.
        """
        from sparsight.data.label_review import LabelReview

        review = LabelReview(self)
        for label, count in counts.items():
            review.take(label, count)
        return review

    def is_reject(self, path: Sequence[str]) -> bool:
        """Whether a path is a node that rejects a photo, such as `Sort Out`, or lies below one."""
        nodes = self.nodes or {}
        above = (nodes.get(tuple(path[:depth])) for depth in range(1, len(path) + 1))
        return any(node is not None and node.reject for node in above)

    def rejects(self) -> list[Path]:
        """The nodes that reject a photo, without those below them, in order."""
        return [path for path, node in (self.nodes or {}).items() if node.reject and not self.is_reject(path[:-1])]

    def children(self, parent: Path = ()) -> list[Path]:
        """The nodes right below one, in order; without one, those of the first level."""
        return self._children.get(parent, [])

    @cached_property
    def _children(self) -> dict[Path, list[Path]]:
        found: dict[Path, list[Path]] = {}
        for path in self.nodes or {}:
            found.setdefault(path[:-1], []).append(path)
        return found

    def languages(self) -> list[str]:
        """The languages that some node has a name in, sorted."""
        return sorted({language for node in (self.nodes or {}).values() for language in node.names})

    def display_name(self, path: Path, language: str | None = None) -> str:
        """Name a node as people are shown it: in a language where it has a name in it, else as it is stored."""
        names = (self.nodes or {})[path].names
        return names.get(language, path[-1]) if language else path[-1]

    def label_config(self, language: str | None = None) -> str:
        """Write the labelling interface that Label Studio offers these nodes with.

        Args:
            language: of the names shown; what is stored are the nodes' own names always.

        Raises:
            SparsightError: the taxonomy lists no nodes, or has no name in this language.
        """
        from sparsight.data.label_config import label_config

        return label_config(self, language)


def derive_taxonomy(labels: Mapping[Path, int]) -> Taxonomy:
    """Make a taxonomy of the labels in use, each with the nodes above it, in alphabetical order."""
    paths = {label[:depth] for label in labels for depth in range(1, len(label) + 1)}
    return Taxonomy(nodes={path: Node() for path in sorted(paths)})
