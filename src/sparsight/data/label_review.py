"""Labels in use held against a taxonomy: retired ones become their successors, and those at odds are counted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparsight.data.labels import Path, join_path
from sparsight.data.taxonomy import Standing, Taxonomy
from sparsight.data.taxonomy_checks import nearest_label
from sparsight.errors import SparsightError

_SHOWN = 20


@dataclass
class LabelReview:
    """Takes labels one by one, and counts how each stands to the taxonomy.

    Attributes:
        taxonomy: what they are held against.
        known: how often a node was named.
        retired: how often each label that has a successor was, by the label and the node that it is taken as.
        dropped: how often each label was that is retired without a successor.
        unknown: how often each label was that the taxonomy doesn't know.
    """

    taxonomy: Taxonomy
    known: int = 0
    retired: Counter[tuple[Path, Path]] = field(default_factory=Counter)
    dropped: Counter[Path] = field(default_factory=Counter)
    unknown: Counter[Path] = field(default_factory=Counter)

    def take(self, path: Path, times: int = 1) -> tuple[Path | None, Standing]:
        """Count a label, and say what it means today, as `Taxonomy.look_up` does."""
        node, standing = self.taxonomy.look_up(path)
        if standing == "unknown":
            self.unknown[path] += times
        elif node is None:
            self.dropped[path] += times
        elif standing == "retired":
            self.retired[path, node] += times
        else:
            self.known += times
        return node, standing

    def sentences(self) -> list[str]:
        """Tell of each label that is at odds with the taxonomy, the most frequent of its kind first."""
        retired = [f"{_told(old, n)}: taken as {join_path(new)!r}" for (old, new), n in _ranked(self.retired)]
        dropped = [
            f"{_told(path, n)}: dropped, as it is retired without a successor" for path, n in _ranked(self.dropped)
        ]
        return [*_shortened(retired, "retired"), *_shortened(dropped, "dropped"), *self.unknown_sentences()]

    def unknown_sentences(self) -> list[str]:
        """Tell of each unknown label, with the nearest that the taxonomy knows."""
        ranked = _ranked(self.unknown)
        near = {path: nearest_label(path, self.taxonomy.nodes or {}) for path, _ in ranked[:_SHOWN]}
        ends = {path: f"; nearest is {join_path(node)!r}" if node else "" for path, node in near.items()}
        lines = [f"{_told(path, n)}: unknown{ends.get(path, '')}" for path, n in ranked]
        return _shortened(lines, "unknown")

    def refuse_unknown(self, what: str) -> None:
        """End where a label is unknown.

        Args:
            what: what to do about it besides mending the taxonomy, as a sentence.

        Raises:
            SparsightError: some label is; the message lists them.
        """
        if not self.unknown:
            return
        lines = "\n".join(f"  - {line}" for line in self.unknown_sentences())
        labels = "1 label" if len(self.unknown) == 1 else f"{len(self.unknown):,} labels"
        raise SparsightError(
            f"The taxonomy doesn't know {labels}:\n{lines}",
            hint=f"Add them to its file, as nodes or retired with their successors. {what}",
        )

    def as_json(self) -> dict[str, Any]:
        """The counts, for a report."""
        return {
            "known": self.known,
            "retired": [
                {"label": join_path(old), "taken_as": join_path(new), "count": n}
                for (old, new), n in _ranked(self.retired)
            ],
            "dropped": [{"label": join_path(path), "count": n} for path, n in _ranked(self.dropped)],
            "unknown": [{"label": join_path(path), "count": n} for path, n in _ranked(self.unknown)],
        }


def _told(path: Path, count: int) -> str:
    return f"{join_path(path)!r}, given {'once' if count == 1 else f'{count:,} times'}"


def _ranked(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _shortened(lines: list[str], kind: str) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"and {more:,} more {kind} labels"] if more > 0 else lines
