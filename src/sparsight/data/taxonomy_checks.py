"""What is wrong with a taxonomy, and what is doubtful about it."""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from sparsight.data.labels import Path, is_under, join_path
from sparsight.data.taxonomy import Taxonomy

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")


def contradictions(taxonomy: Taxonomy) -> Iterator[tuple[Path, str]]:
    """Find what a taxonomy can't be used with.

    Yields:
        The node or retired path at fault, and what is wrong with it.
    """
    for path in taxonomy.nodes or {}:
        yield from _of_node(taxonomy, path)
    for parent in {path[:-1] for path in taxonomy.nodes or {}}:
        yield from _of_siblings(taxonomy, taxonomy.children(parent))
    for path in taxonomy.retired:
        yield from _of_retired(taxonomy, path)


def _of_node(taxonomy: Taxonomy, path: Path) -> Iterator[tuple[Path, str]]:
    nodes = taxonomy.nodes or {}
    if text := _wrong_names(path):
        yield path, text
        return
    if path in taxonomy.retired:
        yield path, f"{join_path(path)!r} is among the retired, too."
    parent = path[:-1]
    if parent and parent not in nodes:
        where = " but a retired one" if parent in taxonomy.retired else ""
        yield path, f"its parent {join_path(parent)!r} is no node{where}{_nearest(parent, nodes)}"
    for language, name in nodes[path].names.items():
        if not _LANGUAGE.fullmatch(language):
            yield path, f"{language!r} is no language; expected a tag such as de or pt-BR."
        if text := _wrong_names((name,)):
            yield path, text


def _wrong_names(path: Path) -> str | None:
    if not path or not all(name.strip() for name in path):
        return f"{join_path(path)!r} has an empty name in it; a path is written level 1/level 2."
    if any(name != name.strip() for name in path):
        stripped = join_path([name.strip() for name in path])
        return f"{join_path(path)!r} has blanks around a name; write {stripped!r}."
    if _CONTROL.search("".join(path)):
        return f"{join_path(path)!r} has a line break or control character in it."
    return None


def _of_siblings(taxonomy: Taxonomy, siblings: list[Path]) -> Iterator[tuple[Path, str]]:
    """Siblings that show the same name: Label Studio would offer only one of them."""
    for language in taxonomy.languages():
        owners = {path[-1]: path for path in siblings}
        for path in siblings:
            name = taxonomy.display_name(path, language)
            other = owners.setdefault(name, path)
            if other != path:
                yield path, f"its name in {language!r}, {name!r}, is that of {join_path(other)!r}, too."


def _of_retired(taxonomy: Taxonomy, path: Path) -> Iterator[tuple[Path, str]]:
    if text := _wrong_names(path):
        yield path, text
    if taxonomy.look_up(path)[1] != "unknown":
        return
    chain = _chain(taxonomy, path)
    if chain[-1] in chain[:-1]:
        yield path, f"its successors go in a circle: {' -> '.join(map(join_path, chain))}."
    else:
        yield path, f"its successor {join_path(chain[-1])!r} is no node{_nearest(chain[-1], taxonomy.nodes or {})}"


def _chain(taxonomy: Taxonomy, path: Path) -> list[Path]:
    """Follow successors to the end, or to the first that was met before."""
    chain = [path]
    while (successor := taxonomy.retired.get(chain[-1])) is not None:
        chain.append(successor)
        if successor in chain[:-1]:
            break
    return chain


def doubts(taxonomy: Taxonomy) -> list[str]:
    """Tell in sentences what works, but may not be meant: names almost the same, and successors that are retired."""
    alike: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in [*(taxonomy.nodes or {}), *taxonomy.retired]:
        alike[_folded(path)].append(path)
    sentences = [
        f"{' and '.join(repr(join_path(path)) for path in paths)} differ in case or blanks alone."
        for paths in alike.values()
        if len(paths) > 1
    ]
    for path, successor in taxonomy.retired.items():
        if successor is not None and successor in taxonomy.retired:
            end = taxonomy.resolve(path)
            told = f"is taken as {join_path(end)!r}" if end else "is dropped, as that has no successor"
            sentences.append(f"{join_path(path)!r} is retired for {join_path(successor)!r}, retired itself: it {told}.")
    return sentences


def _folded(path: Path) -> tuple[str, ...]:
    return tuple(" ".join(name.split()).casefold() for name in path)


def nearest_label(path: Path, known: Iterable[Path]) -> Path | None:
    """Find the label that somebody may have meant: the same but for case and blanks, else one written alike."""
    by_text = {join_path(each): each for each in known}
    same = [each for each in by_text.values() if _folded(each) == _folded(path)]
    if same:
        return same[0]
    close = difflib.get_close_matches(join_path(path), by_text, n=1, cutoff=0.6)
    return by_text[close[0]] if close else None


def _nearest(path: Path, known: Iterable[Path]) -> str:
    near = nearest_label(path, (each for each in known if not is_under(each, path)))
    return f"; did you mean {join_path(near)!r}?" if near else "."
