"""Tests a registered classifier on other test images than its training did, so that two versions can be compared."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.evaluation.metrics import Metrics, Predictions, evaluate
from sparsight.evaluation.probes import embed
from sparsight.models.classifier import load_classifier
from sparsight.models.folder import ModelDescription
from sparsight.models.labelling import Labeller
from sparsight.stores.lineage import Lineage
from sparsight.stores.models import fetch_model
from sparsight.stores.registry import ModelRegistry, ModelVersion


class UnlikeImagesError(SparsightError):
    """A model was trained on images of another size, or made square in another way."""


def retested(registry: ModelRegistry, version: ModelVersion, images: PackedImages) -> ModelVersion:
    """Give a version with its scores on the test split of these images in place of those recorded with it.

    Nothing is written to the registry.

    Raises:
        SparsightError: it is no classifier, or the images have no labelled test split or aren't prepared as it needs.
    """
    with TemporaryDirectory(prefix="sparsight-") as place:
        metrics = measure(fetch_model(version, Path(place) / "model", registry), images, version.reference)
    lineage = Lineage.of_tags(version.tags)
    told = replace(lineage, metrics=metrics.overall(), test_digest=metrics.images_digest, test_images=metrics.images)
    return replace(version, tags=told.tags())


def measure(folder: Path, images: PackedImages, name: str) -> Metrics:
    """Measure a classifier's model folder on the labelled test images; `name` is what errors call it."""
    network, description = load_classifier(folder)
    _check(images, description, name)
    labels = images.index["label"].fillna("").to_numpy(object)
    positions = images.positions("test")
    positions = positions[labels[positions] != ""]
    if not len(positions):
        raise SparsightError(
            f"{images.folder} has no labelled test image.", hint="Give an images folder that has some."
        )
    labeller = Labeller(description)
    answers = labeller.read(embed(network, images, positions, description.preprocessing))
    ids = images.index["id"].to_numpy(object)[positions].tolist()
    predictions = Predictions.of_answers(ids, labels[positions].tolist(), labeller, answers)
    reject = description.hierarchy.reject if description.hierarchy else ()
    return evaluate(predictions, description.classes, reject=reject)


def _check(images: PackedImages, description: ModelDescription, name: str) -> None:
    wanted = (description.preprocessing.image_size, description.preprocessing.resize)
    found = (images.size[0], images.manifest.parameters["resize"])
    if found != wanted:
        raise UnlikeImagesError(
            f"{images.folder} holds images of {found[0]} pixels, resize {found[1]}; {name} was trained on {wanted[0]} "
            f"pixels, resize {wanted[1]}.",
            hint="Give images that data_prep made as both models need them.",
        )
