"""The step train_classifier: trains a classifier on the labelled images, reports on the test split, registers it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sparsight.steps.arguments import labels_in, run_step
from sparsight.steps.model_run import ModelRun

if TYPE_CHECKING:
    from sparsight.evaluation.report import ClassifierReport
    from sparsight.models.folder import Decision, ModelDescription
    from sparsight.training.base_model import BaseModel
    from sparsight.training.calibration import Calibration
    from sparsight.training.classifier import ClassifierOptions, Trained
    from sparsight.training.fitting import Epoch
    from sparsight.training.labelled import LabelledSplits
    from sparsight.training.publishing import Measured
    from sparsight.training.targets import Hierarchy
    from sparsight.training.tracking import Tracker

PLACES = ("images", "model", "base_model_folder", "model_name")
"""Arguments that say where things are, not how the model was made."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component train_classifier."""

    images: Path
    model: Path
    base_model: str = "none"
    base_model_folder: Path | None = None
    backbone: str = "resnet18"
    small_image_stem: str = "auto"
    model_name: str = "classifier"
    freeze_backbone: bool = True
    head_epochs: int = 0
    backbone_learning_rate_ratio: float = 0.1
    hidden: int = 256
    dropout: float = 0.5
    optimizer: str = "adamw"
    learning_rate: float = 0.002
    weight_decay: float = 0.01
    epochs: int = 200
    batch_size: int = 32
    balance: str = "none"
    patience: int = 40
    augmentation_passes: int = 8
    hierarchy: str = "none"
    decision: str = "confident"
    threshold: float = 0.5
    reject: str = "[]"
    crop_scale_min: float = 0.6
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotation_degrees: float = 10.0
    quarter_turns: bool = False
    colour_jitter: float = 0.8
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    precision: str = "auto"
    seed: int = 0
    processes: int = 1
    instances: int = 1

    def hyperparameters(self) -> dict[str, Any]:
        """Everything that makes a difference to the weights, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in PLACES}


def main(arguments: Arguments) -> None:
    """Train where the model isn't there yet, and register it."""
    from sparsight.data.packed import PackedImages
    from sparsight.training.base_model import open_base_model
    from sparsight.training.distributed import start_processes
    from sparsight.training.labelled import LabelledSplits
    from sparsight.training.tracking import tracked_run

    splits = LabelledSplits.of(PackedImages(arguments.images))
    base = open_base_model(
        arguments.base_model,
        arguments.base_model_folder,
        backbone=arguments.backbone,
        image_size=splits.images.size[0],
        small_image_stem=arguments.small_image_stem,
        seed=arguments.seed,
    )
    description = _describe(arguments, splits, base)
    spread = ("processes", "instances")  # which the weights don't depend on
    parameters = {name: value for name, value in description.hyperparameters.items() if name not in spread}
    parameters["images"] = dict(splits.images.manifest.parameters)
    world = start_processes(arguments.processes, arguments.instances)
    with tracked_run("train_classifier", _flat(arguments), leads=world.is_leader) as tracker:
        run = ModelRun(
            folder=arguments.model,
            name=arguments.model_name,
            step="train_classifier",
            made_by=parameters,
            images=splits.images,
            world=world,
            tracker=tracker,
            measure=lambda: _track(tracker, arguments.model / "report"),
            base_model=base.version or base.origin,
        )
        run.carry_out(lambda: _train(arguments, splits, base, description, run))


def _train(
    arguments: Arguments,
    splits: "LabelledSplits",
    base: "BaseModel",
    description: "ModelDescription",
    run: ModelRun,
) -> None:
    from sparsight.data.artefact import new_artefact
    from sparsight.evaluation.report import write_classifier_report
    from sparsight.models.folder import write_model
    from sparsight.models.precision import resolve_precision
    from sparsight.models.pyfunc import save_pyfunc
    from sparsight.training.calibration import calibrated
    from sparsight.training.classifier import ClassifierTrainer
    from sparsight.training.familiarity import learn_familiarity
    from sparsight.training.tracking import KEPT_EPOCH

    device = run.world.device()
    precision = resolve_precision(arguments.precision, device)
    options = _options(arguments, base)
    trainer = ClassifierTrainer(base.backbone, splits, options, device=device, precision=precision, world=run.world)
    lead = _lead(arguments, splits, base)
    print(f"{lead} On {device}, {precision}.", flush=True)
    for note in (*splits.notes, *base.notes(splits.images.size[0])):
        print(f"note: {note}", flush=True)

    def write(trained: "Trained") -> None:
        calibration = calibrated(trained.classifier, splits, options)
        finished = calibration.put_into(description) if calibration else description
        with new_artefact(arguments.model, "model", run.made_by) as draft:
            write_model(draft.folder, finished, trained.classifier.state_dict())
            learn_familiarity(trained.classifier.backbone, splits, finished.preprocessing).write(draft.folder)
            report = _report(splits, base, trained, options, finished, calibration, lead)
            metrics = write_classifier_report(draft.folder / "report", report)
            save_pyfunc(draft.folder, finished)
            run.tracker.metrics({KEPT_EPOCH: trained.best.number})
            draft.counts.update(train=len(splits.train), test=len(splits.test), epochs=len(trained.epochs))
        hierarchy = f", hierarchical F1 {metrics.hierarchy.f1:.3f}" if metrics.hierarchy else ""
        scores = f"macro F1 {metrics.macro_f1:.3f}, accuracy {metrics.accuracy:.3f}{hierarchy}"
        print(f"Test: {scores} ({metrics.images} images)", flush=True)

    with run.tracker.history() as history:

        def on_epoch(epoch: "Epoch") -> None:
            run.tracker.take_over(trainer.run_id)
            history.add(epoch.number, epoch.metrics())

        trainer.train(
            on_epoch,
            begin=run.tracker.start,
            finish=lambda trained: run.end(trainer.run_id, lambda: write(trained)),
        )


def _describe(arguments: Arguments, splits: "LabelledSplits", base: "BaseModel") -> "ModelDescription":
    from sparsight.models.folder import HeadDescription, ModelDescription, Preprocessing
    from sparsight.training.targets import describe_hierarchy, make_targets

    images, labels = splits.images, make_targets(splits.classes, cast("Hierarchy", arguments.hierarchy))
    return ModelDescription(
        kind="classifier",
        backbone=base.description,
        head=HeadDescription(hidden=arguments.hidden, dropout=arguments.dropout),
        hierarchy=describe_hierarchy(
            labels,
            decision=cast("Decision", arguments.decision),
            threshold=arguments.threshold,
            reject=labels_in("reject", arguments.reject),
        ),
        classes=labels.outputs,
        preprocessing=Preprocessing(
            image_size=images.size[0], resize=images.manifest.parameters["resize"], mean=base.mean, std=base.std
        ),
        hyperparameters={
            **arguments.hyperparameters(),
            "backbone": base.description.name,  # a base model brings its own, whatever the inputs say
            "small_image_stem": "on" if base.description.small_image_stem else "off",
            "base": {"origin": base.origin, **base.hyperparameters},
        },
    )


def _options(arguments: Arguments, base: "BaseModel") -> "ClassifierOptions":
    from sparsight.data.augment import AugmentationOptions
    from sparsight.training.classifier import ClassifierOptions

    augmentation = AugmentationOptions(
        crop_scale=(arguments.crop_scale_min, 1.0),
        horizontal_flip=arguments.horizontal_flip,
        vertical_flip=arguments.vertical_flip,
        rotation_degrees=arguments.rotation_degrees,
        quarter_turns=arguments.quarter_turns,
        jitter=arguments.colour_jitter,
        brightness=arguments.brightness,
        contrast=arguments.contrast,
        saturation=arguments.saturation,
        hue=arguments.hue,
        greyscale=0.0,
        blur=0.0,
        mean=base.mean,
        std=base.std,
    )
    same = {field.name for field in dataclasses.fields(ClassifierOptions)} - {"augmentation"}
    return ClassifierOptions(**{name: getattr(arguments, name) for name in same}, augmentation=augmentation)


def _report(
    splits: "LabelledSplits",
    base: "BaseModel",
    trained: "Trained",
    options: "ClassifierOptions",
    description: "ModelDescription",
    calibration: "Calibration | None",
    lead: str,
) -> "ClassifierReport":

    from sparsight.evaluation.metrics import Predictions
    from sparsight.evaluation.ranking import Ranked
    from sparsight.evaluation.report import ClassifierReport
    from sparsight.evaluation.taxonomy_report import TaxonomyReport
    from sparsight.models.labelling import Labeller
    from sparsight.training.classifier import logits_of

    ranked = Ranked.of(description, logits_of(trained.classifier, splits.images, splits.test, options.augmentation))
    ids, truth = (
        column[splits.test].tolist() for column in (splits.images.index["id"].to_numpy(object), splits.labels)
    )
    return ClassifierReport(
        classes=splits.classes,
        predictions=Predictions.of_answers(ids, truth, Labeller(description), ranked.answers),
        pixels=lambda places: splits.images.gather(splits.test[places]),
        epochs=[epoch.metrics() for epoch in trained.epochs],
        best_epoch=trained.best.number,
        lead=lead,
        notes=(*splits.notes, *base.notes(splits.images.size[0]), *(calibration.notes() if calibration else ())),
        parameters=description.hyperparameters,
        taxonomy=TaxonomyReport(
            ranked=ranked,
            hierarchy=description.hierarchy,
            calibrated_on=calibration.images if calibration else {},
        ),
    )


def _lead(arguments: Arguments, splits: "LabelledSplits", base: "BaseModel") -> str:
    first = f"alone for {arguments.head_epochs} epochs, then " if arguments.head_epochs else ""
    way = "frozen" if arguments.freeze_backbone else f"{first}trained with it"
    heads = {
        "none": f"A head for {len(splits.classes)} classes",
        "per_parent": f"A head for each parent in a taxonomy of {len(splits.classes)} labels",
        "leaves": f"A head over the leaves of a taxonomy of {len(splits.classes)} labels",
    }
    return (
        f"{heads[arguments.hierarchy]} on {base.description.name} with {base.origin}, {way}: "
        f"{len(splits.train):,} training, {len(splits.valid):,} validation and {len(splits.test):,} test images."
    )


def _track(tracker: "Tracker", report: Path) -> "Measured":
    from sparsight.evaluation.metrics import read_metrics
    from sparsight.evaluation.stored import METRICS
    from sparsight.training.publishing import Measured

    metrics = read_metrics(report / METRICS)
    tracker.metrics({f"test_{name}": value for name, value in metrics.overall().items()})
    tracker.folder(report, "report")
    return Measured(metrics=metrics.overall(), test_digest=metrics.images_digest, test_images=metrics.images)


def _flat(arguments: Arguments) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(arguments).items() if value is not None}


if __name__ == "__main__":
    run_step(Arguments, main)
