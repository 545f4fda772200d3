"""The step embed: runs a backbone over packed images and writes their embeddings."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component embed."""

    images: Path
    model: str | None = None
    model_folder: Path | None = None
    backbone: str = "resnet18"
    small_image_stem: str = "auto"
    precision: str = "auto"
    seed: int = 0
    embeddings: Path


def main(arguments: Arguments) -> None:
    """Open the model, and embed."""
    from sparsight.data.packed import PackedImages
    from sparsight.models.precision import best_device, resolve_precision
    from sparsight.stores.models import one_model
    from sparsight.training.base_model import open_base_model
    from sparsight.training.embedding import write_embeddings

    model = one_model(arguments.model, arguments.model_folder)
    images = PackedImages(arguments.images)
    base = open_base_model(
        model,
        None,
        backbone=arguments.backbone,
        image_size=images.size[0],
        small_image_stem=arguments.small_image_stem,
        seed=arguments.seed,
    )
    device = best_device()
    print(f"{base.description.name} with {base.version or base.origin}, on {device}.", flush=True)
    for note in base.notes(images.size[0]):
        print(f"note: {note}", flush=True)
    precision = resolve_precision(arguments.precision, device)
    write_embeddings(images, base, arguments.embeddings, device=device, precision=precision)


if __name__ == "__main__":
    run_step(Arguments, main)
