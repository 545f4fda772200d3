"""How many annotations came in since a model was trained; those of the test split don't count."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.data.artefact import read_manifest
from sparsight.errors import SparsightError
from sparsight.evaluation.promotion import JUDGED_AT
from sparsight.stores.lineage import Lineage
from sparsight.stores.registry import ModelRegistry

COUNT = "annotations"


@dataclass(frozen=True, kw_only=True)
class AnnotationsSince:
    """Annotations of a dataset, and of the one that the newest judged version of a model was trained on.

    Attributes:
        now: annotations in the dataset.
        then: annotations that the version was trained with; 0 where there is none, or where that wasn't recorded.
        reference: the version, such as `classifier/3`; empty where there is none.
    """

    now: int
    then: int
    reference: str

    @property
    def new(self) -> int:
        """How many more there are now; negative where annotations went away."""
        return self.now - self.then

    def __str__(self) -> str:
        since = f"since {self.reference} was trained" if self.reference else "and no version that was judged yet"
        return f"{self.new:,} new annotations {since} ({self.now:,} in all)"


def annotations_since(registry: ModelRegistry, model_name: str, dataset: Path) -> AnnotationsSince:
    """Count them.

    The newest version that was judged counts, in production or not: one that lost should not be trained again from the
    same labels, but one whose promotion broke off should.

    Args:
        registry: where the model is.
        model_name: its name; it need not be there yet.
        dataset: a dataset artefact of labelled photos.

    Raises:
        SparsightError: the folder is no such dataset, or the registry can't be reached.
    """
    counts = read_manifest(dataset, "dataset").counts
    if COUNT not in counts:
        raise SparsightError(
            f"{dataset} doesn't say how many annotations it holds.",
            hint="Make it anew with connect_db, mode labelled.",
        )
    newest = next((each for each in reversed(registry.versions(model_name)) if JUDGED_AT in each.tags), None)
    then = int(Lineage.of_tags(newest.tags).dataset_counts.get(COUNT, 0)) if newest else 0
    return AnnotationsSince(now=counts[COUNT], then=then, reference=newest.reference if newest else "")
