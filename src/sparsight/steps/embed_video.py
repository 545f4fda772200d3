"""The step embed_video: decodes videos, runs a backbone over their frames, and writes both."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component embed_video."""

    embeddings: Path
    images: Path
    videos: Path | None = None
    blob_prefix: str = ""
    model: str | None = None
    model_folder: Path | None = None
    backbone: str = "resnet18"
    small_image_stem: str = "auto"
    fps: float = 10.0
    width: int = 100
    fast: bool = True
    min_difference: float = 4.0
    max_failures: float = 0.01
    max_pixels: int = 35_389_440
    max_seconds: float = 43_200.0
    precision: str = "auto"
    seed: int = 0


def main(arguments: Arguments) -> None:
    """Find the videos, open the model, and embed."""
    from sparsight.data.video.reading import FrameReader
    from sparsight.data.video.sampling import Sampling
    from sparsight.data.video.sources import find_videos
    from sparsight.models.precision import best_device, resolve_precision
    from sparsight.stores.models import one_model
    from sparsight.training.base_model import open_base_model
    from sparsight.training.video_artefacts import write_video_embeddings

    model = one_model(arguments.model, arguments.model_folder)
    sampling = Sampling(
        fps=arguments.fps,
        width=arguments.width,
        fast=arguments.fast,
        min_difference=arguments.min_difference,
        max_pixels=arguments.max_pixels,
        max_seconds=arguments.max_seconds,
    )
    videos = find_videos(None if arguments.blob_prefix else arguments.videos, prefix=arguments.blob_prefix)
    base = open_base_model(
        model,
        None,
        backbone=arguments.backbone,
        image_size=sampling.width,
        small_image_stem=arguments.small_image_stem,
        seed=arguments.seed,
    )
    device = best_device()
    print(
        f"{len(videos):,} videos; {base.description.name} with {base.version or base.origin}, on {device}.", flush=True
    )
    for note in base.notes(sampling.width):
        print(f"note: {note}", flush=True)
    write_video_embeddings(
        FrameReader(videos, sampling),
        base,
        arguments.embeddings,
        arguments.images,
        device=device,
        precision=resolve_precision(arguments.precision, device),
        max_failures=arguments.max_failures,
    )


if __name__ == "__main__":
    run_step(Arguments, main)
