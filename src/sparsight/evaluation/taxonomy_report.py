"""The part of a classifier's report that tells of its labels' taxonomy: a tree of nodes, levels, and how sure to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparsight.data.labels import is_under, join_path, split_path
from sparsight.evaluation.hierarchy import HierarchyMetrics, TrueLabels
from sparsight.evaluation.plots import plot_coverage
from sparsight.evaluation.ranking import Ranked, coverage, with_ranking
from sparsight.evaluation.stored import ClassMetrics
from sparsight.models.folder import HierarchyDescription

COVERAGE, COVERAGE_TABLE = "coverage.png", "coverage.csv"


@dataclass(frozen=True, kw_only=True)
class TaxonomyReport:
    """What it is made of.

    Attributes:
        ranked: what the classifier says of the test images.
        hierarchy: how it says it; None of a classifier that knows no hierarchy.
        calibrated_on: by head, the number of validation images that its temperature was found on.
    """

    ranked: Ranked
    hierarchy: HierarchyDescription | None = None
    calibrated_on: Mapping[str, int] = field(default_factory=dict)

    @property
    def threshold(self) -> float | None:
        """How probable a node must be to be the answer; None where that isn't asked."""
        return self.hierarchy.threshold if self.hierarchy and self.hierarchy.decision == "confident" else None

    @property
    def reject(self) -> Sequence[str]:
        """Nodes at or below which an image is none to classify."""
        return self.hierarchy.reject if self.hierarchy else ()

    @property
    def heads(self) -> list[tuple[str, float, int]]:
        """Of each head its parent, its temperature, and the number of images that this was found on."""
        temperatures = self.hierarchy.temperatures if self.hierarchy else {}
        return [(name, value, self.calibrated_on.get(name, 0)) for name, value in temperatures.items()]


@dataclass(frozen=True, kw_only=True)
class TreeRow:
    """One node of the tree on the page."""

    depth: int
    name: str
    metrics: ClassMetrics
    rejects: bool


def write_taxonomy_report(
    folder: Path, report: TaxonomyReport, metrics: HierarchyMetrics, truth: Sequence[str]
) -> HierarchyMetrics:
    """Write coverage.csv and coverage.png, and add to the metrics what takes all probabilities.

    Args:
        folder: where to; it is there.
        report: what to tell.
        metrics: of the test images.
        truth: their labels.
    """
    true = TrueLabels(truth, map(join_path, report.ranked.tree.nodes))
    curve = coverage(true, report.ranked)
    curve.to_csv(folder / COVERAGE_TABLE, index=False, float_format="%.6f", lineterminator="\n")
    plot_coverage(folder / COVERAGE, curve, report.threshold)
    return with_ranking(metrics, truth, report.ranked)


def tree_rows(metrics: HierarchyMetrics, reject: Sequence[str]) -> list[TreeRow]:
    """The nodes with each one's children right below it."""
    rejects = [split_path(label) for label in reject]
    return [
        TreeRow(
            depth=len(path),
            name=path[-1],
            metrics=metrics.nodes[join_path(path)],
            rejects=any(is_under(path, node) for node in rejects),
        )
        for path in sorted(map(split_path, metrics.nodes))
    ]
