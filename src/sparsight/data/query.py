"""Which photos a dataset asks for, as one parameterised Cosmos DB query; no value ever becomes part of its text."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sparsight.data.labels import Path, join_path
from sparsight.errors import SparsightError
from sparsight.stores.metadata import FILTER_NAME, MetadataStore

Mode = Literal["labelled", "unlabelled", "all"]
MODES: tuple[str, ...] = get_args(Mode)

_ANNOTATED = "(IS_ARRAY(c.labels_with_taxonomy) AND ARRAY_LENGTH(c.labels_with_taxonomy) > 0)"
_FILTERED = f"udf.{FILTER_NAME}(c.id, c.labels_with_taxonomy, @sparsight_include, @sparsight_exclude)"
_OUR_PREFIX = "@sparsight_"


def container_names(text: str) -> tuple[str, ...]:
    """Read names of Cosmos DB containers, separated by commas; each once.

    Raises:
        SparsightError: there is none.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise SparsightError(f"containers is {text!r}; expected names of Cosmos DB containers, separated by commas.")
    return names


@dataclass(frozen=True)
class Condition:
    """A part of the query's WHERE: in words for messages, in Cosmos SQL, and its parameters."""

    words: str
    text: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PhotoQuery:
    """Which photos are wanted.

    Rejected photos (`sortout`) never are. Those of the hidden test set are wanted among labelled ones only.

    Attributes:
        containers: Cosmos DB containers to look in.
        mode: `labelled`, `unlabelled`, or `all`.
        include: nodes of the taxonomy; the photo must carry a label at or below one of them. Empty: any label.
        exclude: nodes of the taxonomy; the photo must carry no label at or below any of them.
        min_annotators: least number of annotations here; that they come from distinct people is checked later.
        require_review: whether the annotations must have been reviewed.
        exclude_blurred: whether photos known to be blurred are left out.
        where: a further condition in Cosmos SQL on the document `c`; empty for none.
        where_parameters: values of the parameters in it, by `@name`.
    """

    containers: tuple[str, ...]
    mode: Mode = "labelled"
    include: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()
    min_annotators: int = 1
    require_review: bool = False
    exclude_blurred: bool = False
    where: str = ""
    where_parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.where or self.where_parameters:
            check_where(self.where, self.where_parameters)
        if self.mode == "unlabelled" and (self.include or self.exclude or self.require_review):
            raise SparsightError(
                "include, exclude and require_review speak of labels, but mode is 'unlabelled'.",
                hint="Leave them out, or set mode to 'labelled' or 'all'.",
            )
        if self.mode != "labelled" and self.min_annotators > 1:
            raise SparsightError(
                f"min_annotators is {self.min_annotators}, but mode is {self.mode!r}.",
                hint="Leave it out, or set mode to 'labelled'.",
            )

    def conditions(self) -> list[Condition]:
        """List the parts of WHERE, the cheap ones first."""
        parts = [Condition("not sorted out", "NOT (IS_BOOL(c.sortout) AND c.sortout)")]
        if self.mode != "labelled":
            parts.append(
                Condition("outside the hidden test set", "NOT (IS_BOOL(c.sortout_testset) AND c.sortout_testset)")
            )
        if self.mode == "unlabelled":
            parts.append(Condition("without annotations", f"NOT {_ANNOTATED}"))
        if self.mode == "labelled":
            parts.append(Condition("with annotations", _ANNOTATED))
            parts += self._enough_annotations()
        if self.require_review:
            parts.append(Condition("reviewed (require_review)", "(IS_BOOL(c.has_review) AND c.has_review)"))
        if self.exclude_blurred:
            parts.append(Condition("not blurred (exclude_blurred)", "NOT (IS_BOOL(c.is_blurred) AND c.is_blurred)"))
        if self.where:
            parts.append(Condition("meeting the extra condition (where)", f"({self.where})", self.where_parameters))
        return parts + self._labels()

    def _enough_annotations(self) -> list[Condition]:
        if self.min_annotators <= 1:
            return []
        words = f"with {self.min_annotators} annotations or more (min_annotators)"
        text = "ARRAY_LENGTH(c.labels_with_taxonomy) >= @sparsight_annotators"
        return [Condition(words, text, {"@sparsight_annotators": self.min_annotators})]

    def _labels(self) -> list[Condition]:
        if not (self.include or self.exclude):
            return []
        return [Condition("with the labels asked for (include, exclude)", f"NOT IS_NULL({_FILTERED})")]

    def text(self) -> tuple[str, dict[str, Any]]:
        """Write the query: only the fields that a dataset needs, and the parameters' values beside the text."""
        conditions = self.conditions()
        where = " AND ".join(condition.text for condition in conditions)
        fields = "c.id, c.uri_orig, c.file_hash"
        parameters = {name: value for condition in conditions for name, value in condition.parameters.items()}
        if self.mode != "unlabelled":
            fields += f", c.sortout_testset, c.has_review, {_FILTERED} AS annotations"
            parameters |= _label_parameters(self.include, self.exclude)
        return f"SELECT {fields} FROM c WHERE {where}", parameters  # noqa: S608 - values are parameters


def _label_parameters(include: Sequence[Path], exclude: Sequence[Path]) -> dict[str, Any]:
    return {
        "@sparsight_include": [list(node) for node in include],
        "@sparsight_exclude": [list(node) for node in exclude],
    }


def check_where(where: str, parameters: Mapping[str, Any]) -> None:
    """Check that a condition stays within the brackets it is put in, and that its parameters fit.

    Raises:
        SparsightError: it is empty, holds a semicolon, a comment, an open string or unbalanced brackets, or names
            other parameters than those given.
    """
    bare = _without_strings(where)
    for forbidden in (";", "--", "/*", "*/"):
        if forbidden in bare:
            raise SparsightError(
                f"The extra condition (where) holds {forbidden!r}: {where}",
                hint="Write one condition, without comments and without a semicolon.",
            )
    if not bare.strip() or not _balanced(bare):
        raise SparsightError(
            f"The extra condition (where) is empty or its brackets don't match: {where!r}",
            hint="Write one condition on the document c, such as: c.resolution_width >= @width",
        )
    named = set(re.findall(r"@\w+", bare))
    if named != set(parameters):
        raise SparsightError(
            f"The extra condition (where) names the parameters {sorted(named)}; where_parameters gives "
            f"{sorted(parameters)}.",
            hint='Give a value for each, such as: {"@width": 300}',
        )
    if taken := [name for name in named if name.lower().startswith(_OUR_PREFIX)]:
        raise SparsightError(f"Parameters of where can't begin with {_OUR_PREFIX}: {sorted(taken)}.")


def _without_strings(text: str) -> str:
    """Blank out the string literals of Cosmos SQL, so that what is left is syntax.

    Raises:
        SparsightError: a string isn't closed.
    """
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', '""', text, flags=re.DOTALL)
    if bare.replace('""', "").count('"') or "'" in bare:
        raise SparsightError(f"The extra condition (where) has a string that isn't closed: {text}")
    return bare


def _balanced(bare: str) -> bool:
    closing = {")": "(", "]": "[", "}": "{"}
    opened: list[str] = []
    for character in bare:
        if character in closing.values():
            opened.append(character)
        elif character in closing and (not opened or opened.pop() != closing[character]):
            return False
    return not opened


async def fetch(store: MetadataStore, query: PhotoQuery) -> dict[str, list[dict[str, Any]]]:
    """Run the query.

    Returns:
        The rows of each container: id, uri_orig, file_hash and, except for unlabelled photos, sortout_testset,
        has_review and annotations.

    Raises:
        SparsightError: a container is missing, a label of include or exclude isn't known, or no photo matches.
    """
    await store.require_containers(query.containers)
    for container in query.containers:
        await store.install_filter(container)
    text, parameters = query.text()
    rows = {container: await store.query(container, text, parameters) for container in query.containers}
    await _check_labels(store, query)
    if not any(rows.values()):
        raise SparsightError(
            f"No photo matches in {', '.join(query.containers)}: {await _narrowing(store, query)}.",
            hint="Relax the first condition that leaves nothing.",
        )
    return rows


async def _narrowing(store: MetadataStore, query: PhotoQuery) -> str:
    """Tell how many photos are left after each condition."""
    conditions = query.conditions()
    parameters = query.text()[1]
    parts = [f"{await _count(store, query, 'true', {})} photos"]
    for last in range(1, len(conditions) + 1):
        text = " AND ".join(condition.text for condition in conditions[:last])
        used = {name: value for name, value in parameters.items() if name in text}
        parts.append(f"{await _count(store, query, text, used)} {conditions[last - 1].words}")
    return ", then ".join(parts)


async def _count(store: MetadataStore, query: PhotoQuery, where: str, parameters: Mapping[str, Any]) -> int:
    text = f"SELECT VALUE COUNT(1) FROM c WHERE {where}"  # noqa: S608 - values are parameters
    counts = [await store.query(container, text, parameters) for container in query.containers]
    return sum(sum(count) for count in counts)


async def _check_labels(store: MetadataStore, query: PhotoQuery) -> None:
    """Check that each node of include and exclude is carried by some photo: a mistyped one would change the dataset."""
    some = f"SELECT TOP 1 c.id FROM c WHERE {_ANNOTATED} AND NOT IS_NULL({_FILTERED})"  # noqa: S608
    for node in (*query.include, *query.exclude):
        found = [await store.query(container, some, _label_parameters([node], [])) for container in query.containers]
        if not any(found):
            raise await _unknown_label(store, query, node)


async def _unknown_label(store: MetadataStore, query: PhotoQuery, node: Path) -> SparsightError:
    text = f"SELECT VALUE {_FILTERED} FROM c WHERE {_ANNOTATED}"  # noqa: S608 - our own names
    rows = [
        row for container in query.containers for row in await store.query(container, text, _label_parameters([], []))
    ]
    return nobody_labelled(node, query.containers, [note for row in rows for note in row])


def nobody_labelled(node: Path, containers: Sequence[str], annotations: Iterable[Mapping[str, Any]]) -> SparsightError:
    """Tell that no photo carries a node, and which labels there are."""
    paths = {tuple(path) for note in annotations for path in note["taxonomy"]}
    known = sorted({join_path(path[:depth]) for path in paths for depth in range(1, len(path) + 1)})
    near = difflib.get_close_matches(join_path(node), known, n=1, cutoff=0.5)
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return SparsightError(
        f"No photo in {', '.join(containers)} is labelled {join_path(node)!r}. Labels there: {listed or 'none'}.",
        hint=f"Did you mean {near[0]!r}?" if near else "",
    )
