"""Images a second of data_prep against a straightforward loop, on the same Azurite; and its memory as images grow.

The loop downloads one image after the other with the synchronous azure-storage-blob client, decodes and resizes it with
Pillow, and keeps the pixels in an array. data_prep is timed whole: starting its processes, shards, index and manifest.
Both fit the same photos, JPEGs of 640 x 480 to 1024 x 768 pixels made from a seed, into 100 x 100. Azurite runs on the
same cores and takes its share of them.

Usage:
    python benchmarks/data_prep.py [--quick]
"""

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

# The processes that data_prep starts import this module again, as they do a step's: imports that they don't need stand
# where they are used.

CONTAINER = "photos"
SIZE = 100
DISTINCT = 60


def photo(seed: int) -> bytes:
    """Make a JPEG with a photo's soft shapes and sensor noise."""
    generator = np.random.default_rng(seed)
    width, height = ((640, 480), (800, 600), (1024, 768))[seed % 3]
    shapes = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8))
    soft = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = soft + generator.normal(0, 6, (height, width, 1))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def client() -> "ContainerClient":
    """Open the synchronous client that the peer uses."""
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob import ContainerClient

    from sparsight.stores.settings import AZURITE_API_VERSION, BlobSettings

    settings = BlobSettings.from_environment()
    key = AzureNamedKeyCredential(settings.account, settings.key or "")
    return ContainerClient(settings.endpoint, CONTAINER, credential=key, api_version=AZURITE_API_VERSION)


def upload(count: int) -> int:
    """Upload so many photos; returns their mean size in bytes."""
    photos = [photo(seed) for seed in range(DISTINCT)]
    with client() as container:
        container.create_container()
        for number in range(count):
            container.upload_blob(f"{number:05d}.jpg", photos[number % DISTINCT])
    return sum(map(len, photos)) // DISTINCT


def loop(count: int) -> NDArray[np.uint8]:
    """Do the same in the most straightforward way."""
    pixels = np.empty((count, SIZE, SIZE, 3), np.uint8)
    with client() as container:
        for number in range(count):
            content = container.download_blob(f"{number:05d}.jpg").readall()
            with Image.open(io.BytesIO(content)) as image:
                pixels[number] = np.asarray(ImageOps.pad(image.convert("RGB"), (SIZE, SIZE)))
    return pixels


def pack(count: int, uploaded: int, folder: Path) -> None:
    """Run data_prep over so many images; beyond those uploaded, under new ids from the beginning again."""
    import pandas as pd

    from sparsight.data.fetching import Packing
    from sparsight.data.packing import pack_images

    ids = [f"{number:06d}" for number in range(count)]
    uris = [f"{CONTAINER}/{number % uploaded:05d}.jpg" for number in range(count)]
    dataset = pd.DataFrame({"id": ids, "uri": uris, "file_hash": "", "label": "", "split": "train"})
    pack_images(dataset, folder, Packing(size=SIZE))


def rate(count: int, work: Callable[[], object]) -> float:
    """Images a second of one run."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def peak_memory(work: Callable[[], None]) -> float:
    """Most MiB that this process and those it started held in memory at once, sampled fifty times a second."""
    this, peak, done = psutil.Process(), [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], sum(map(_resident, [this, *this.children(recursive=True)])))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return max(peak[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**20


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def peak_of(count: int, uploaded: int) -> float:
    """Peak memory of packing so many images, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", str(count), str(uploaded)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def compare(images: int, rounds: int, few: int, folder: Path) -> None:
    """Measure both in turns, then the memory; print what was found."""
    from sparsight.data.fetching import cores
    from sparsight.data.packed import PackedImages
    from sparsight.data.packing import pack_images

    assert pack_images  # imported before anything is timed
    size = upload(images)
    print(f"{images} JPEG photos of {size / 1e3:.0f} kB on average, {SIZE} x {SIZE}, {cores()} cores", flush=True)
    ours, theirs = [], []
    for number in range(rounds):
        theirs.append(rate(images // 4, lambda: loop(images // 4)))
        target = folder / f"images-{number}"
        ours.append(rate(images, lambda target=target: pack(images, images, target)))
        print(f"round {number + 1}: loop {theirs[-1]:.0f} images/s, data_prep {ours[-1]:.0f} images/s", flush=True)
    pixels = PackedImages(folder / "images-0").gather(np.arange(DISTINCT))
    apart = float(np.abs(pixels.astype(int) - loop(DISTINCT)).mean())
    print(f"mean difference of the pixels: {apart:.2f} of 255", flush=True)
    peaks = {str(count): round(peak_of(count, images)) for count in (few, 4 * few)}
    print("peak memory: " + ", ".join(f"{peak} MiB for {count} images" for count, peak in peaks.items()), flush=True)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    result = {
        "name": "data_prep",
        "peer": "synchronous azure-storage-blob download + Pillow resize, one after the other",
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "images_per_second": round(statistics.median(ours)),
        "peer_images_per_second": round(statistics.median(theirs)),
        "peak_mib": peaks,
        "cores": cores(),
    }
    print(json.dumps(result))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images: under a minute on two cores")
    parser.add_argument("--memory-of", nargs=2, type=int, metavar=("COUNT", "UPLOADED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from sparsight.local.services import environment, running_services

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.memory_of:
            count, uploaded = arguments.memory_of
            print(peak_memory(lambda: pack(count, uploaded, folder / "images")))
            return
        with running_services(folder / "services", only=["azurite"]) as services:
            os.environ.update(environment(services))
            images, rounds, few = (1000, 3, 500) if arguments.quick else (2000, 5, 3000)
            compare(images, rounds, few, folder)


if __name__ == "__main__":
    main()
