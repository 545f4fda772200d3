"""The step predict: has a classifier say what each photo shows, and how sure and how familiar it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.steps.arguments import run_step

if TYPE_CHECKING:
    import torch

    from sparsight.data.packed import PackedImages
    from sparsight.models.prediction import Reader
    from sparsight.models.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component predict."""

    images: Path
    model: str | None = None
    model_folder: Path | None = None
    familiar_share: float = 0.95
    precision: str = "float32"
    predictions: Path


def main(arguments: Arguments) -> None:
    """Open the model, check that it fits the images, and predict where that isn't done yet."""
    from sparsight.data.artefact import is_finished
    from sparsight.data.packed import PackedImages
    from sparsight.models.precision import best_device, resolve_precision
    from sparsight.models.prediction import Reader
    from sparsight.models.predictor import Predictor, check_images
    from sparsight.stores.models import model_folder, one_model
    from sparsight.training.publishing import weights_digest

    images, device = PackedImages(arguments.images), best_device()
    precision = resolve_precision(arguments.precision, device)
    with model_folder(one_model(arguments.model, arguments.model_folder)) as (folder, version):
        predictor, digest = Predictor.load(folder).to(device), weights_digest(folder)
    reader = Reader(predictor, arguments.familiar_share)
    check_images(images, predictor.description, version or "the model")
    parameters = {
        "model": version,
        "weights_digest": digest,
        "familiar_share": arguments.familiar_share,
        "unfamiliar_beyond": reader.limit,
        "precision": str(precision).removeprefix("torch."),
        "images": dict(images.manifest.parameters),
    }
    if not is_finished(arguments.predictions, "predictions", parameters):
        _predict(arguments, images, predictor, reader, precision, parameters)


def _predict(
    arguments: Arguments,
    images: "PackedImages",
    predictor: "Predictor",
    reader: "Reader",
    precision: "torch.dtype",
    parameters: dict[str, Any],
) -> None:
    import numpy as np

    from sparsight.data.artefact import new_artefact
    from sparsight.data.predictions import PredictionWriter
    from sparsight.evaluation.prediction_report import PredictionSummary, write_prediction_report
    from sparsight.progress import Progress
    from sparsight.training.labelled import distinct
    from sparsight.training.predicting import predict_by_batch

    positions, _ = distinct(images, np.arange(len(images)))
    progress = Progress("Predicting", len(positions), "photos")
    summary = PredictionSummary(reader.limit)
    with new_artefact(arguments.predictions, "predictions", parameters) as draft:
        with PredictionWriter(draft.folder) as writer:
            for batch, rows in predict_by_batch(predictor, reader, images, positions, precision=precision):
                writer.add(rows)
                summary.add(batch, rows)
                progress.advance(len(batch))
        progress.finish()
        lead = f"What {parameters['model'] or 'a model'} says of {len(positions):,} photos."
        write_prediction_report(draft.folder, images, summary, lead=lead, notes=summary.notes(arguments.familiar_share))
        draft.counts.update(photos=len(positions), unfamiliar=summary.unfamiliar.total())


if __name__ == "__main__":
    run_step(Arguments, main)
