"""The step train_autoencoder: trains an autoencoder with a binary code on packed images, and registers it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.steps.arguments import run_step
from sparsight.steps.model_run import ModelRun, made_by

if TYPE_CHECKING:
    from sparsight.data.artefact import Draft
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.view_agreement import ViewComparison
    from sparsight.models.autoencoder_folder import AutoencoderModel
    from sparsight.models.codec.contexts import Contexts
    from sparsight.training.autoencoder import AutoencoderOptions, AutoencoderTrainer

_PLACES = {"images", "validation_images", "model", "model_name"}
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component train_autoencoder."""

    images: Path
    model: Path
    validation_images: Path | None = None
    validation_model: str | None = None
    model_name: str = "autoencoder"
    design: str = "residual"
    binary: bool = True
    channels: int = 128
    cell: int = 8
    code_bits: int = 64
    layers: int = 2
    filter_size: int = 3
    filters: int = 32
    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 0.001
    learning_rate_scaling: str = "sqrt"
    schedule: str = "plateau"
    plateau_factor: float = 0.5
    patience: int = 10
    min_delta: float = 0.0001
    image_size: int = 0
    crop_size: int = 0
    ssim_weight: float = 0.8
    balance_weight: float = 0.01
    decorrelation_weight: float = 0.01
    rounding: str = "deterministic"
    salt_and_pepper: float = 0.0
    blur: float = 0.0
    precision: str = "auto"
    seed: int = 0
    processes: int = 1
    instances: int = 1

    def training(self) -> "AutoencoderOptions":
        """Gather how it is trained."""
        from sparsight.data.corruption import Corruption
        from sparsight.training.autoencoder import AutoencoderOptions

        same = {field.name for field in dataclasses.fields(AutoencoderOptions)} - {"corruption"}
        corruption = Corruption(salt_and_pepper=self.salt_and_pepper, blur=self.blur)
        return AutoencoderOptions(**{name: getattr(self, name) for name in same}, corruption=corruption)

    def hyperparameters(self) -> dict[str, Any]:
        """Everything but where data comes from and goes to."""
        return {name: value for name, value in vars(self).items() if name not in _PLACES and value is not None}


def main(arguments: Arguments) -> None:
    """Train where the model isn't there yet, and register it."""
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.stored import read_final_metrics
    from sparsight.training.distributed import start_processes
    from sparsight.training.publishing import Measured
    from sparsight.training.tracking import tracked_run

    images = PackedImages(arguments.images)
    world = start_processes(arguments.processes, arguments.instances)
    with tracked_run("train_autoencoder", arguments.hyperparameters(), leads=world.is_leader) as tracker:
        run = ModelRun(
            folder=arguments.model,
            name=arguments.model_name,
            step="train_autoencoder",
            made_by=made_by(arguments, images),
            images=images,
            world=world,
            tracker=tracker,
            measure=lambda: Measured(metrics=read_final_metrics(arguments.model / "report", "an autoencoder's")),
        )
        run.carry_out(lambda: _train(arguments, run))


def _describe(arguments: Arguments, images: "PackedImages") -> "AutoencoderModel":
    from sparsight.models.autoencoder import AutoencoderDescription
    from sparsight.models.autoencoder_folder import AutoencoderModel

    names = AutoencoderDescription.model_fields
    return AutoencoderModel(
        autoencoder=AutoencoderDescription(**{name: getattr(arguments, name) for name in names}),
        image_size=arguments.image_size or images.size[0],
        resize=images.manifest.parameters["resize"],
        hyperparameters=arguments.hyperparameters(),
    )


def _train(arguments: Arguments, run: ModelRun) -> None:
    import torch

    from sparsight.models.autoencoder import Autoencoder
    from sparsight.models.autoencoder_folder import write_autoencoder
    from sparsight.models.autoencoder_pyfunc import save_autoencoder_pyfunc
    from sparsight.models.precision import resolve_precision
    from sparsight.training.autoencoder import AutoencoderTrainer
    from sparsight.training.autoencoder_results import contexts_of

    description, world = _describe(arguments, run.images), run.world
    device = world.device()
    precision = resolve_precision(arguments.precision, device)
    torch.manual_seed(arguments.seed)
    trainer = AutoencoderTrainer(
        Autoencoder(description.autoencoder),
        run.images,
        arguments.training(),
        device=device,
        precision=precision,
        world=world,
    )
    several = f", {world.size} processes" if world.size > 1 else ""
    size = description.autoencoder.bits_per_pixel
    print(
        f"Training the {arguments.design} design, {size:g} bits a pixel, on {len(trainer.train):,} images, "
        f"{device}, {precision}{several}",
        flush=True,
    )

    def fill(draft: "Draft") -> dict[str, float]:
        contexts = contexts_of(trainer)
        write_autoencoder(draft.folder, description, trainer.network, contexts)
        final = _report(draft.folder / "report", arguments, trainer, description, contexts)
        save_autoencoder_pyfunc(draft.folder, description)
        draft.counts.update(images=len(trainer.train), epochs=len(trainer.history))
        told = ", ".join(f"{name} {value:.4g}" for name, value in final.items())
        print(f"On {len(trainer.valid):,} other images: {told}", flush=True)
        return final

    run.fit(trainer, fill)


def _report(
    folder: Path,
    arguments: Arguments,
    trainer: "AutoencoderTrainer",
    description: "AutoencoderModel",
    contexts: "Contexts | None",
) -> dict[str, float]:
    from sparsight.evaluation.autoencoder_report import AutoencoderResult, write_autoencoder_report
    from sparsight.training.autoencoder import VALIDATED
    from sparsight.training.autoencoder_results import measure_rates, pictures

    measured = trainer.valid[:VALIDATED]
    rates = measure_rates(trainer, contexts, measured)
    result = AutoencoderResult(
        hyperparameters=description.hyperparameters,
        images=len(trainer.train),
        validated=len(measured),
        history=[{"epoch": record.epoch, **record.metrics()} for record in trainer.history],
        best_epoch=trainer.best_epoch.epoch,
        rates=rates,
        pictures=pictures(trainer, rates, trainer.valid[:_SHOWN]),
        comparison=_compare(arguments, trainer),
    )
    return write_autoencoder_report(folder, result)


def _compare(arguments: Arguments, trainer: "AutoencoderTrainer") -> "ViewComparison | None":
    if arguments.validation_model is None:
        return None
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.view_agreement import compare_views
    from sparsight.training.autoencoder_results import reconstruct, whole_images
    from sparsight.training.base_model import open_base_model

    images = PackedImages(arguments.validation_images) if arguments.validation_images else trainer.images
    base = open_base_model(
        arguments.validation_model, None, backbone="resnet18", image_size=images.size[0], small_image_stem="off"
    )
    return compare_views(
        base.backbone.to(trainer.device),
        (base.mean, base.std),
        images,
        lambda positions: whole_images(images, positions, arguments.image_size, trainer.device),
        lambda batch: reconstruct(trainer.network, batch),
    )


if __name__ == "__main__":
    run_step(Arguments, main)
