"""What the steps that pre-train share: their arguments, and how a backbone is trained, measured and registered."""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sparsight.steps.model_run import ModelRun, made_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance
    from torch.nn import Module

    from sparsight.data.artefact import Draft
    from sparsight.data.augment import Augmentation, AugmentationOptions
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.pretraining_report import LossMeaning
    from sparsight.evaluation.probes import KnnProbe
    from sparsight.models.backbones import Backbone
    from sparsight.models.folder import ModelDescription, Preprocessing
    from sparsight.models.self_supervised import SelfSupervised
    from sparsight.training.distributed import Processes
    from sparsight.training.frames import FrameOptions
    from sparsight.training.pretraining import Pretrainer, PretrainingOptions

OptionsT = TypeVar("OptionsT", bound="DataclassInstance")
_PLACES = {"images", "probe_images", "model", "model_name"}


@dataclass(frozen=True, kw_only=True)
class PretrainingArguments(ABC):
    """Inputs and outputs of every component that pre-trains; a method adds its own.

    Attributes:
        step: the component.
        method: as people call it.
    """

    step: ClassVar[str]
    method: ClassVar[str]

    images: Path
    model: Path
    probe_images: Path | None = None
    model_name: str
    backbone: str = "resnet18"
    small_image_stem: str = "auto"
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 0.06
    sgd_momentum: float = 0.9
    weight_decay: float = 0.0005
    warmup_epochs: int = 5
    crop_scale_min: float = 0.2
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.5
    rotation_degrees: float = 10.0
    quarter_turns: bool = False
    shear: float = 0.0
    colour_jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    greyscale: float = 0.2
    blur: float = 0.5
    blur_sigma_max: float = 2.0
    frame_gap_seconds: float = 0.0
    batch_gap_seconds: float = 0.0
    probe_every: int = 5
    precision: str = "auto"
    learning_rate_scaling: str = "linear"
    backward_passes_per_step: int = 1
    gradient_compression: str = "none"
    commit_every: int = 50
    seed: int = 0
    processes: int = 1
    instances: int = 1

    @abstractmethod
    def trainer(self) -> "type[Pretrainer[Any]]":
        """The method's trainer."""

    @abstractmethod
    def network(self, backbone: "Backbone") -> "SelfSupervised":
        """Put the method's network round a backbone."""

    @abstractmethod
    def loss_meaning(self) -> "LossMeaning":
        """Say what the method's loss tells."""

    def views(self, augmentation: "AugmentationOptions", image_size: int) -> "Sequence[Augmentation]":
        """What makes the views of an image whose shorter edge has so many pixels: by default two, alike."""
        from sparsight.data.augment import Augmentation

        return [Augmentation(augmentation)] * 2

    def training(self) -> "PretrainingOptions":
        """Gather how it is trained."""
        from sparsight.training.pretraining import PretrainingOptions

        return self.gather(PretrainingOptions)

    def frames(self) -> "FrameOptions":
        """Gather which frames of videos go together."""
        from sparsight.training.frames import FrameOptions

        return self.gather(FrameOptions)

    def augmentation(self, preprocessing: "Preprocessing") -> "AugmentationOptions":
        """Gather how views are made."""
        from sparsight.data.augment import AugmentationOptions

        return self.gather(
            AugmentationOptions,
            crop_scale=(self.crop_scale_min, 1.0),
            jitter=self.colour_jitter,
            blur_sigma=(0.1, self.blur_sigma_max),
            mean=preprocessing.mean,
            std=preprocessing.std,
        )

    def hyperparameters(self) -> dict[str, Any]:
        """Everything but where data comes from and goes to."""
        return {name: value for name, value in vars(self).items() if name not in _PLACES}

    def gather(self, options: type[OptionsT], **others: Any) -> OptionsT:
        """Fill a class of options from the arguments of the same names, and from others."""
        names = [field.name for field in dataclasses.fields(options) if hasattr(self, field.name)]
        return options(**{name: getattr(self, name) for name in names}, **others)


def pretrain(arguments: PretrainingArguments) -> None:
    """Train where the model isn't there yet, and register it."""
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.stored import read_final_metrics
    from sparsight.training.distributed import start_processes
    from sparsight.training.publishing import Measured
    from sparsight.training.tracking import tracked_run

    images = PackedImages(arguments.images)
    description = _describe(arguments, images)
    world = start_processes(arguments.processes, arguments.instances)
    with tracked_run(arguments.step, arguments.hyperparameters(), leads=world.is_leader) as tracker:
        run = ModelRun(
            folder=arguments.model,
            name=arguments.model_name,
            step=arguments.step,
            made_by=made_by(arguments, images),
            images=images,
            world=world,
            tracker=tracker,
            measure=lambda: Measured(metrics=read_final_metrics(arguments.model / "report", "a pre-training's")),
        )
        run.carry_out(lambda: _train(arguments, description, run))


def _describe(arguments: PretrainingArguments, images: "PackedImages") -> "ModelDescription":
    from sparsight.models.backbones import backbone_preprocessing, describe_backbone
    from sparsight.models.folder import ModelDescription, Preprocessing

    size = max(images.size)  # of frames of videos, which aren't square, what they would be fitted into
    backbone = describe_backbone(arguments.backbone, arguments.small_image_stem, size)
    mean, std, _ = backbone_preprocessing(arguments.backbone)
    return ModelDescription(
        kind="backbone",
        backbone=backbone,
        preprocessing=Preprocessing(image_size=size, resize=images.manifest.parameters["resize"], mean=mean, std=std),
        hyperparameters={"method": arguments.method, **arguments.hyperparameters()},
    )


def _train(arguments: PretrainingArguments, description: "ModelDescription", run: ModelRun) -> None:
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.probes import KnnProbe
    from sparsight.models.folder import write_model
    from sparsight.models.pyfunc import save_pyfunc

    probe_images = PackedImages(arguments.probe_images) if arguments.probe_images else None
    trainer = _trainer(arguments, run.images, description, run.world)
    preprocessing, precision = description.preprocessing, trainer.precision
    probe = KnnProbe(probe_images, preprocessing, precision=precision) if probe_images else None

    def fill(draft: "Draft") -> dict[str, float]:
        untrained = probe(_untrained(arguments, description).to(trainer.device)) if probe else {}
        write_model(draft.folder, description, trainer.network.backbone.state_dict())
        final = _report(draft.folder / "report", arguments, trainer, description, probe, untrained)
        save_pyfunc(draft.folder, description)
        draft.counts.update(images=len(trainer.positions), epochs=arguments.epochs)
        return final

    run.fit(trainer, fill, probe=probe)


def _trainer(
    arguments: PretrainingArguments, images: "PackedImages", description: "ModelDescription", world: "Processes"
) -> "Pretrainer[Any]":
    from sparsight.models.precision import resolve_precision
    from sparsight.training.frames import Frames
    from sparsight.training.labelled import distinct

    device = world.device()
    precision = resolve_precision(arguments.precision, device)
    positions, _ = distinct(images, images.positions("train"))
    options = arguments.frames()
    trainer = arguments.trainer()(
        arguments.network(_untrained(arguments, description)),
        images,
        positions,
        arguments.views(arguments.augmentation(description.preprocessing), min(images.size)),
        arguments.training(),
        device=device,
        precision=precision,
        world=world,
        frames=Frames(images, positions, options) if options.wanted else None,
    )
    several = f", {world.size} processes" if world.size > 1 else ""
    print(f"Pre-training {arguments.backbone} on {len(positions):,} images, {device}, {precision}{several}", flush=True)
    return trainer


def _untrained(arguments: PretrainingArguments, description: "ModelDescription") -> "Backbone":
    """The backbone as it is before training; what is drawn next depends on the seed, too."""
    import torch

    from sparsight.models.backbones import create_backbone

    torch.manual_seed(arguments.seed)
    return create_backbone(description.backbone)


def _report(
    folder: Path,
    arguments: PretrainingArguments,
    trainer: "Pretrainer[Any]",
    description: "ModelDescription",
    probe: "KnnProbe | None",
    untrained: dict[str, float],
) -> dict[str, float]:
    from sparsight.evaluation.embedding_map import sample
    from sparsight.evaluation.pretraining_report import Pretraining, write_pretraining_report
    from sparsight.evaluation.probes import embed

    images = probe.images if probe else trainer.images
    positions = probe.positions if probe else trainer.positions
    drawn = positions[sample(len(positions))]
    backbone: Module = trainer.network.backbone
    result = Pretraining(
        hyperparameters=description.hyperparameters,
        meaning=arguments.loss_meaning(),
        images=len(trainer.positions),
        history=[{"epoch": record.epoch, **record.metrics()} for record in trainer.history],
        knn_untrained=untrained.get("knn_accuracy"),
        knn_majority=probe.majority if probe else None,
        embeddings=embed(backbone, images, drawn, description.preprocessing).numpy(),
        labels=images.index["label"].to_numpy(str)[drawn].tolist(),
    )
    return write_pretraining_report(folder, result)
