"""The step label_quality: measures how far annotators agree, and finds photos that are worth another look."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.steps.arguments import run_step

if TYPE_CHECKING:
    import pandas as pd

    from sparsight.data.embeddings import Embeddings
    from sparsight.evaluation.label_quality import Suspects
    from sparsight.evaluation.votes import Votes
    from sparsight.training.cross_validation import OutOfSample


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component label_quality."""

    dataset: Path
    embeddings: Path
    exclude_reviewed: bool = True
    folds: int = 5
    epochs: int = 20
    seed: int = 0
    review_limit: int = 200
    quality: Path
    review: Path


def main(arguments: Arguments) -> None:
    """Measure and list where that isn't done yet, and track the numbers."""
    from sparsight.data.artefact import is_finished
    from sparsight.evaluation.label_quality import QUALITY, read_quality
    from sparsight.evaluation.quality_report import SUMMARY
    from sparsight.training.tracking import tracked_run

    parameters = _parameters(arguments)
    done = is_finished(arguments.quality, "label_quality", parameters)
    if not done or not is_finished(arguments.review, "selection", parameters):
        _measure(arguments, parameters)
    print((arguments.quality / SUMMARY).read_text(encoding="utf-8"), flush=True)
    with tracked_run("label_quality", {"exclude_reviewed": arguments.exclude_reviewed}) as tracker:
        tracker.metrics(read_quality(arguments.quality / QUALITY).overall())
        tracker.folder(arguments.quality, "label_quality")
    print(f"{SUMMARY} and index.html are in {arguments.quality}, photos to look at again in {arguments.review}")


def _parameters(arguments: Arguments) -> dict[str, Any]:
    from sparsight.data.annotations import read_annotations
    from sparsight.data.artefact import read_manifest
    from sparsight.data.dataset import read_dataset
    from sparsight.data.origin import table_digest

    given = dataclasses.asdict(arguments)
    return {
        **{name: value for name, value in given.items() if not isinstance(value, Path)},
        "dataset": dict(read_manifest(arguments.dataset, "dataset").parameters),
        "dataset_sha256": table_digest(read_dataset(arguments.dataset)),
        "annotations_sha256": table_digest(read_annotations(arguments.dataset)),
        "embeddings": dict(read_manifest(arguments.embeddings, "embeddings").parameters),
    }


def _measure(arguments: Arguments, parameters: Mapping[str, Any]) -> None:
    from sparsight.data.annotations import read_annotations
    from sparsight.data.artefact import is_finished, new_artefact
    from sparsight.data.dataset import read_photos
    from sparsight.data.embeddings import Embeddings, require_origin
    from sparsight.data.thumbnails import fetch_thumbnails
    from sparsight.evaluation.disagreements import LabelRule
    from sparsight.evaluation.label_quality import measure_labels
    from sparsight.evaluation.quality_report import QualityReport, write_quality_report
    from sparsight.evaluation.review import photos_to_review, write_review
    from sparsight.training.cross_validation import judge_labels

    embeddings, photos = Embeddings(arguments.embeddings), read_photos(arguments.dataset)
    require_origin(embeddings, parameters["dataset_sha256"], arguments.dataset)
    annotations, rule = read_annotations(arguments.dataset), LabelRule.of(parameters["dataset"])
    measured = measure_labels(annotations, rule, exclude_reviewed=arguments.exclude_reviewed)
    known_by = photos["file_hash"].where(photos["file_hash"] != "", photos["id"])
    keys = dict(zip(photos["id"], known_by, strict=True))
    judged = judge_labels(embeddings, keys, folds=arguments.folds, epochs=arguments.epochs, seed=arguments.seed)
    suspected, suspects = _suspects(judged, embeddings, photos, rule.votes(annotations))
    report = QualityReport(measured=measured, suspected=suspected, suspects=suspects, fetch=fetch_thumbnails)
    if not is_finished(arguments.quality, "label_quality", parameters):
        with new_artefact(arguments.quality, "label_quality", parameters) as draft:
            write_quality_report(draft.folder, report)
            draft.counts.update(report.counts)
    if not is_finished(arguments.review, "selection", parameters):
        listed = photos_to_review(measured.disagreements, suspected, arguments.review_limit)
        with new_artefact(arguments.review, "selection", parameters) as draft:
            write_review(draft.folder, listed)
            draft.counts["photos"] = len(listed)


def _suspects(
    judged: "OutOfSample | None", embeddings: "Embeddings", photos: "pd.DataFrame", votes: "Votes"
) -> "tuple[pd.DataFrame, Suspects | None]":
    from sparsight.evaluation.label_errors import find_label_errors, list_suspects, no_suspects
    from sparsight.evaluation.label_quality import Suspects

    if judged is None:
        return no_suspects(), None
    shown = photos.set_index("id").loc[embeddings.index["id"].iloc[judged.rows]].reset_index()
    said = votes.said_about(shown)
    found = find_label_errors(judged.labels, judged.classes, judged.probabilities, said)
    suspects = Suspects(
        examined=len(found),
        accuracy=judged.accuracy,
        suspected=int(found["suspected"].sum()),
        left_out=dict(judged.left_out),
    )
    return list_suspects(found, shown, said), suspects


if __name__ == "__main__":
    run_step(Arguments, main)
