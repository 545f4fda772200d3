"""The labels of photos found in the database, as a taxonomy takes them today."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sparsight.data.label_review import LabelReview
from sparsight.data.labels import Path, is_under, join_path
from sparsight.data.query import nobody_labelled
from sparsight.data.taxonomy import Taxonomy
from sparsight.data.taxonomy_checks import nearest_label
from sparsight.errors import SparsightError

UnknownLabels = Literal["refuse", "drop"]
UNKNOWN_LABELS: tuple[str, ...] = get_args(UnknownLabels)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Relabelling:
    """Replaces retired labels by their successors, and then asks for labels by today's names.

    Attributes:
        taxonomy: what labels mean today.
        unknown_labels: what becomes of those it doesn't know: `refuse` ends, `drop` takes them off their photos.
        include: nodes of the taxonomy; the photo must carry a label at or below one of them. Empty: any label.
        exclude: nodes of the taxonomy; the photo must carry no label at or below any of them.

    Raises:
        SparsightError: include or exclude names what is no node.
    """

    taxonomy: Taxonomy
    unknown_labels: UnknownLabels = "refuse"
    include: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            object.__setattr__(self, name, tuple(self._node(name, path) for path in getattr(self, name)))

    def _node(self, name: str, path: Path) -> Path:
        node = self.taxonomy.resolve(path)
        if node is None:
            near = nearest_label(path, self.taxonomy.nodes or {})
            raise SparsightError(
                f"{name} has {join_path(path)!r}, which is no node of the taxonomy.",
                hint=f"Did you mean {join_path(near)!r}?" if near else "",
            )
        return node

    def apply(self, rows: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[Row]], LabelReview]:
        """Relabel the rows of each container, and leave out those that include and exclude don't want.

        A photo all of whose labels are dropped keeps its annotations, empty: nobody takes it for unlabelled.

        Args:
            rows: as `query.fetch` gives them, asked for without include and exclude.

        Returns:
            The rows that are wanted, and how their labels stood to the taxonomy.

        Raises:
            SparsightError: labels are unknown and refused, or no photo carries a node of include or exclude.
        """
        review = LabelReview(self.taxonomy)
        relabelled = {container: [_relabelled(row, review) for row in found] for container, found in rows.items()}
        if self.unknown_labels == "refuse":
            review.refuse_unknown("To leave such labels out, set unknown_labels to 'drop'.")
        everything = [row for found in relabelled.values() for row in found]
        for node in (*self.include, *self.exclude):
            if not any(_carries(row, [node]) for row in everything):
                notes = [note for row in everything for note in row.get("annotations") or ()]
                raise nobody_labelled(node, list(rows), notes)
        return {name: [row for row in found if self._wants(row)] for name, found in relabelled.items()}, review

    def _wants(self, row: Row) -> bool:
        included = not self.include or _carries(row, self.include)
        return included and not _carries(row, self.exclude)


def _relabelled(row: Row, review: LabelReview) -> Row:
    if not row.get("annotations"):
        return row
    notes = [
        {**note, "taxonomy": [node for path in note["taxonomy"] if (node := review.take(tuple(path))[0]) is not None]}
        for note in row["annotations"]
    ]
    return {**row, "annotations": notes}


def _carries(row: Row, nodes: Sequence[Path]) -> bool:
    paths = [path for note in row.get("annotations") or () for path in note["taxonomy"]]
    return any(is_under(path, node) for path in paths for node in nodes)
