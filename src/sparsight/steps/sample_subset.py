"""The step sample_subset: chooses the photos that are worth labelling next."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.steps.arguments import run_step

if TYPE_CHECKING:
    from sparsight.data.embeddings import Embeddings
    from sparsight.selection import Selection
    from sparsight.selection.candidates import Candidates

_PLACES = {"embeddings", "labelled", "predictions", "classifier", "dataset", "images", "selection"}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component sample_subset."""

    embeddings: Path
    selection: Path
    labelled: Path | None = None
    predictions: Path | None = None
    classifier: Path | None = None
    dataset: Path | None = None
    images: Path | None = None
    budget: int = 100
    strategy: str = "auto"
    split: str = "train"
    labelled_rows: str = "known"
    uncertainty: str = "none"
    class_need: bool = False
    metric: str = "cosine"
    reduction: str = "none"
    dimension: int = 0
    neighbours: int = 15
    min_dist: float = 0.0
    outlier_share: float = 0.0
    seed: int = 0


def main(arguments: Arguments) -> None:
    """Choose where that isn't done yet."""
    from sparsight.data.artefact import is_finished
    from sparsight.data.embeddings import Embeddings
    from sparsight.evaluation.selection_report import SUMMARY

    embeddings = Embeddings(arguments.embeddings)
    parameters = _parameters(arguments, embeddings)
    if not is_finished(arguments.selection, "selection", parameters):
        _choose(arguments, embeddings, parameters)
    print((arguments.selection / SUMMARY).read_text(encoding="utf-8"), flush=True)
    print(f"selected.csv and index.html are in {arguments.selection}", flush=True)


def _parameters(arguments: Arguments, embeddings: "Embeddings") -> dict[str, Any]:
    """What decides about the choice: inputs, and what made the artefacts among them."""
    from sparsight.data.artefact import read_manifest

    kinds = {"labelled": "embeddings", "predictions": "predictions", "classifier": "model", "dataset": "dataset"}
    made_by = {
        name: dict(read_manifest(getattr(arguments, name), kind).parameters)
        for name, kind in {**kinds, "images": "images"}.items()
        if getattr(arguments, name) is not None
    }
    plain = {name: value for name, value in vars(arguments).items() if name not in _PLACES}
    return {**plain, "embeddings": dict(embeddings.manifest.parameters), **made_by}


def _choose(arguments: Arguments, embeddings: "Embeddings", parameters: dict[str, Any]) -> None:
    from sparsight.data.embeddings import Embeddings
    from sparsight.selection import Reduction, select
    from sparsight.selection.candidates import find_candidates, probabilities_of, said_of, uncertainty_of

    labelled = Embeddings(arguments.labelled) if arguments.labelled else None
    candidates = find_candidates(
        embeddings, labelled, split=arguments.split, labels_count=arguments.labelled_rows == "known"
    )
    said = said_of(candidates.ids, arguments.predictions)
    print(f"Choosing {arguments.budget:,} of {len(candidates.ids):,} photos", flush=True)
    chosen = select(
        candidates.embeddings,
        arguments.budget,
        strategy=arguments.strategy,
        labelled=candidates.known_embeddings,
        labels=candidates.known_labels.tolist(),
        predicted=said["label"].tolist(),
        uncertainty=uncertainty_of(said, arguments.uncertainty),
        probabilities=probabilities_of(arguments.classifier, embeddings, candidates.embeddings),
        class_need=arguments.class_need,
        metric=arguments.metric,
        reduction=Reduction(
            method=arguments.reduction,
            dimension=arguments.dimension,
            neighbours=arguments.neighbours,
            min_dist=arguments.min_dist,
        ),
        outlier_share=arguments.outlier_share,
        seed=arguments.seed,
    )
    _write(arguments, embeddings, candidates, chosen, said["label"].tolist(), parameters)


def _write(
    arguments: Arguments,
    embeddings: "Embeddings",
    candidates: "Candidates",
    chosen: "Selection",
    predicted: list[str],
    parameters: dict[str, Any],
) -> None:
    from sparsight.data.artefact import new_artefact
    from sparsight.data.packed import PackedImages
    from sparsight.data.selected import write_selected
    from sparsight.evaluation.selection_report import Choice, write_selection_report

    choice = Choice(
        photos=candidates.table(chosen, predicted),
        embeddings_of=candidates.embeddings_of,
        coverage=chosen.coverage.table(),
        strategy=chosen.strategy,
        labels_are="own" if candidates.have_labels else "predicted",
        parameters={name: value for name, value in vars(arguments).items() if name not in _PLACES},
        notes=chosen.notes(),
    )
    images = PackedImages(arguments.images) if arguments.images else None
    with new_artefact(arguments.selection, "selection", parameters) as draft:
        write_selected(draft.folder, choice.chosen, arguments.dataset, embeddings.frames)
        write_selection_report(draft.folder, choice, images, arguments.seed)
        draft.counts.update(chosen=arguments.budget, candidates=len(candidates.ids), labelled=len(candidates.known_ids))


if __name__ == "__main__":
    run_step(Arguments, main)
