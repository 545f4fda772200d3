"""Label paths of a taxonomy, and how the votes of several annotators become one label."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args
from urllib.parse import unquote

LabelPolicy = Literal["any", "majority", "unanimous"]
LABEL_POLICIES: tuple[str, ...] = get_args(LabelPolicy)
LabelDepth = Literal["whole", "agreed"]
LABEL_DEPTHS: tuple[str, ...] = get_args(LabelDepth)

Path = tuple[str, ...]
"""A label: the names of the taxonomy's nodes from the first level down."""


def join_path(names: Sequence[str]) -> str:
    """Write a label path as one string: names joined with `/`; `%`, `/` and `|` inside a name are percent-encoded."""
    return "/".join(name.replace("%", "%25").replace("/", "%2F").replace("|", "%7C") for name in names)


def split_path(text: str) -> Path:
    """Read a label path as `join_path` writes it: percent-encoded characters are decoded, no text is no names."""
    return tuple(unquote(name) for name in text.split("/")) if text else ()


def join_paths(paths: Iterable[Sequence[str]]) -> str:
    """Write the label of a photo, one path or several, as one string: paths joined with `|`, each once, sorted.

    A path that lies above another of them goes without saying and is left out.
    """
    return "|".join(sorted(map(join_path, deepest(map(tuple, paths)))))


def split_paths(text: str) -> tuple[Path, ...]:
    """Read the label of a photo as `join_paths` writes it; no text is no path."""
    return tuple(map(split_path, paths_in(text))) if text else ()


def paths_in(text: str) -> list[str]:
    """Take the label of a photo apart into its paths, each as `join_path` writes it."""
    return text.split("|")


def counts_as(predicted: str, truth: str) -> str:
    """Say what a predicted label counts as: the true one, where it lies at or below one of that one's paths.

    A true label that stops at an inner node says nothing of what lies below it, so nothing below it is wrong.
    """
    if predicted == truth:
        return truth
    path = split_path(predicted)
    return truth if any(is_under(path, node) for node in split_paths(truth)) else predicted


def is_sound(predicted: str, truth: str) -> bool:
    """Say whether a predicted label is true as far as it goes; it may stop early, or go on where the truth stops."""
    path = split_path(predicted)
    return any(is_under(path, node) or is_under(node, path) for node in split_paths(truth))


def rarest(labels: Sequence[str]) -> list[str]:
    """Say for each photo which of its paths the fewest photos have, so that each belongs to one class.

    Args:
        labels: of each photo, as `join_paths` writes them.
    """
    count = Counter(path for label in labels for path in paths_in(label))
    return [min(paths_in(label), key=lambda path: (count[path], path)) for label in labels]


def is_under(path: Sequence[str], node: Sequence[str]) -> bool:
    """Whether `path` is the taxonomy's node `node` itself, or lies below it."""
    return tuple(path[: len(node)]) == tuple(node)


def deepest(paths: Iterable[Path]) -> list[Path]:
    """Sort paths, each once, and leave out those that another one goes on from: naming a node names those above it."""
    found = set(paths)
    return sorted(found - {path[:depth] for path in found for depth in range(len(path))})


def at_level(path: Sequence[str], level: int) -> Path | None:
    """Cut a path to its first `level` names; 0 keeps it whole. None where the path doesn't reach that level."""
    if level == 0:
        return tuple(path) or None
    return tuple(path[:level]) if len(path) >= level else None


def votes_by_annotator(
    annotations: Collection[tuple[str, Sequence[Sequence[str]]]], level: int, *, shallow: bool = False
) -> dict[str, set[Path]]:
    """Collect what each annotator names at one taxonomy level.

    Several annotations of one annotator are united. An annotator who names nothing that reaches the level abstains,
    that is, is left out.

    Args:
        annotations: annotator and the label paths given, once per annotation.
        level: 1 is the first level; 0 is the whole path.
        shallow: whether paths that end above the level count, too.
    """
    votes: dict[str, set[Path]] = {}
    for annotator, paths in annotations:
        named = {cut for path in paths if (cut := at_level(path, min(level, len(path)) if shallow else level))}
        if named:
            votes.setdefault(annotator, set()).update(named)
    return votes


def settle(
    votes: Mapping[str, Collection[Path]], policy: LabelPolicy, *, depth: LabelDepth = "whole", several: bool = False
) -> tuple[tuple[Path, ...], str]:
    """Find the label that several annotators' votes amount to.

    - `any`: the label that most annotators name; among equals the first in alphabetical order. Never fails.
    - `majority`: the label that more than half of the annotators name. Where annotators name several labels each,
      two can have a majority: the one with more votes wins, and equals settle nothing.
    - `unanimous`: every annotator names this label and nobody names another.

    Args:
        votes: by annotator, one or more distinct labels.
        policy: `any`, `majority` or `unanimous`.
        depth: `whole` votes on labels as they are. `agreed` votes on one level after the other, from the first one
            down, each time on what lies below the outcome so far, and ends where the policy settles nothing more; an
            annotator who names nothing there counts, but for no label.
        several: whether a photo may have several labels at once: with `any` all that somebody names, with `majority`
            all that more than half name, with `unanimous` all, if everybody names all of them.

    Returns:
        The labels, sorted, one unless `several`, and an empty reason; or none and the reason why.
    """
    if depth == "whole":
        chosen, reason = _chosen(votes, policy, several)
        return tuple(deepest(chosen)), reason
    return _descended(votes, policy, several, ())


def _descended(
    votes: Mapping[str, Collection[Path]], policy: LabelPolicy, several: bool, node: Path
) -> tuple[tuple[Path, ...], str]:
    """Settle what lies below a node, and below that, to the end."""
    level = len(node) + 1
    below = {who: {path[:level] for path in paths if is_under(path, node)} - {node} for who, paths in votes.items()}
    chosen, reason = _chosen(below, policy, several)
    if not chosen:
        return ((node,), "") if node else ((), reason)
    return tuple(path for child in sorted(chosen) for path in _descended(votes, policy, several, child)[0]), ""


def _chosen(votes: Mapping[str, Collection[Path]], policy: LabelPolicy, several: bool) -> tuple[list[Path], str]:
    """Apply the policy to labels as they are; an annotator may name none."""
    count = Counter(label for labels in votes.values() for label in set(labels))
    if not count:
        return [], "no label at this taxonomy level"
    ranked = sorted(count, key=lambda label: (-count[label], label))
    if policy == "any":
        return ranked if several else ranked[:1], ""
    if policy == "majority":
        return _majority(ranked, count, len(votes), several)
    if any(count[label] < len(votes) for label in ranked):
        return [], "annotators disagree"
    return (ranked, "") if several or len(ranked) == 1 else ([], "several labels at once")


def _majority(
    ranked: Sequence[Path], count: Mapping[Path, int], annotators: int, several: bool
) -> tuple[list[Path], str]:
    named = [label for label in ranked if 2 * count[label] > annotators]
    if not named:
        return [], "no majority among the annotators"
    if several:
        return named, ""
    if len(named) > 1 and count[named[1]] == count[named[0]]:
        return [], "several labels at once"
    return named[:1], ""
