"""The step data_prep: downloads a dataset's images, scales them to one size and packs them to shards."""

from dataclasses import dataclass
from pathlib import Path

from sparsight.steps.arguments import run_step


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Inputs and outputs of the component data_prep."""

    dataset: Path
    images: Path
    image_size: int | None = None
    backbone: str = "resnet18"
    resize: str = "fit"
    preprocessing: Path | None = None
    concurrency: int = 32
    max_failures: float = 0.01
    max_pixels: int = 89_478_485
    max_bytes: int = 67_108_864
    instances: int = 1


def main(arguments: Arguments) -> None:
    """Pack the dataset's images at the size asked for, else at the one the model or the backbone wants."""
    from sparsight.data.dataset import read_dataset
    from sparsight.data.fetching import Packing
    from sparsight.data.origin import origin_of
    from sparsight.data.packing import pack_images
    from sparsight.data.share import Share
    from sparsight.training.sharing import share_work

    size, resize = _shape(arguments)
    packing = Packing(
        size=size,
        resize=resize,
        max_pixels=arguments.max_pixels,
        max_bytes=arguments.max_bytes,
    )
    dataset = read_dataset(arguments.dataset)
    origin = origin_of(arguments.dataset, dataset)

    def pack(share: Share) -> None:
        pack_images(
            dataset,
            arguments.images,
            packing,
            max_failures=arguments.max_failures,
            concurrency=arguments.concurrency,
            origin=origin,
            share=share,
        )

    share_work(arguments.instances, pack)


def _shape(arguments: Arguments) -> tuple[int, str]:
    """Find the images' edge in pixels, and how they are made square."""
    from sparsight.data.artefact import read_manifest
    from sparsight.errors import SparsightError

    if arguments.preprocessing is None:
        size = _size_for(arguments.backbone) if arguments.image_size is None else arguments.image_size
        return size, arguments.resize
    if arguments.image_size is not None:
        raise SparsightError(
            f"Both image_size ({arguments.image_size}) and preprocessing ({arguments.preprocessing}) are given.",
            hint="Leave image_size out: the model says which size it wants.",
        )
    wanted = read_manifest(arguments.preprocessing, "preprocessing").parameters
    print(f"The model wants images of {wanted['image_size']} pixels, resize {wanted['resize']}", flush=True)
    return int(wanted["image_size"]), str(wanted["resize"])


def _size_for(backbone: str) -> int:
    from sparsight.models.backbones import backbone_preprocessing

    _, _, size = backbone_preprocessing(backbone)
    print(f"{backbone} wants images of {size} x {size} pixels", flush=True)
    return size


if __name__ == "__main__":
    run_step(Arguments, main)
