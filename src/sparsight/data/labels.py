"""Label paths of a taxonomy, and how the votes of several annotators become one label."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args
from urllib.parse import unquote

LabelPolicy = Literal["any", "majority", "unanimous"]
LABEL_POLICIES: tuple[str, ...] = get_args(LabelPolicy)

Path = tuple[str, ...]
"""A label: the names of the taxonomy's nodes from the first level down."""


def join_path(names: Sequence[str]) -> str:
    """Write a label path as one string: names joined with `/`; `%` and `/` inside a name are percent-encoded."""
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)


def split_path(text: str) -> Path:
    """Read a label path as `join_path` writes it: percent-encoded characters are decoded, no text is no names."""
    return tuple(unquote(name) for name in text.split("/")) if text else ()


def is_under(path: Sequence[str], node: Sequence[str]) -> bool:
    """Whether `path` is the taxonomy's node `node` itself, or lies below it."""
    return tuple(path[: len(node)]) == tuple(node)


def deepest(paths: Iterable[Path]) -> list[Path]:
    """Sort paths, each once, and leave out those that another one goes on from: naming a node names those above it."""
    found = set(paths)
    return sorted(found - {path[:depth] for path in found for depth in range(1, len(path))})


def at_level(path: Sequence[str], level: int) -> Path | None:
    """Cut a path to its first `level` names; 0 keeps it whole. None where the path doesn't reach that level."""
    if level == 0:
        return tuple(path) or None
    return tuple(path[:level]) if len(path) >= level else None


def votes_by_annotator(
    annotations: Collection[tuple[str, Sequence[Sequence[str]]]], level: int
) -> dict[str, set[Path]]:
    """Collect what each annotator names at one taxonomy level.

    Several annotations of one annotator are united. An annotator who names nothing that reaches the level abstains,
    that is, is left out.

    Args:
        annotations: annotator and the label paths given, once per annotation.
        level: 1 is the first level; 0 is the whole path.
    """
    votes: dict[str, set[Path]] = {}
    for annotator, paths in annotations:
        named = {cut for path in paths if (cut := at_level(path, level)) is not None}
        if named:
            votes.setdefault(annotator, set()).update(named)
    return votes


def settle(votes: Mapping[str, Collection[Path]], policy: LabelPolicy) -> tuple[Path | None, str]:
    """Find the one label that several annotators' votes amount to.

    - `any`: the label that most annotators name; among equals the first in alphabetical order. Never fails.
    - `majority`: the label that more than half of the annotators name. Where annotators name several labels each,
      two can have a majority: the one with more votes wins, and equals settle nothing.
    - `unanimous`: every annotator names this label and nobody names another.

    Args:
        votes: by annotator, one or more distinct labels.
        policy: `any`, `majority` or `unanimous`.

    Returns:
        The label and an empty reason, or None and the reason why there is none.
    """
    count = Counter(label for labels in votes.values() for label in set(labels))
    if not count:
        return None, "no label at this taxonomy level"
    ranked = sorted(count, key=lambda label: (-count[label], label))
    if policy == "any":
        return ranked[0], ""
    if policy == "majority":
        return _majority(ranked, count, len(votes))
    if len(ranked) == 1:
        return ranked[0], ""
    together = all(count[label] == len(votes) for label in ranked)
    return None, "several labels at once" if together else "annotators disagree"


def _majority(ranked: Sequence[Path], count: Mapping[Path, int], annotators: int) -> tuple[Path | None, str]:
    if 2 * count[ranked[0]] <= annotators:
        return None, "no majority among the annotators"
    if len(ranked) > 1 and count[ranked[1]] == count[ranked[0]]:
        return None, "several labels at once"
    return ranked[0], ""
