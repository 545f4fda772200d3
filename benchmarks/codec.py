"""Compressed images: quality at four sizes beside JPEG and WebP, and speed beside CompressAI's factorised prior.

Quality is measured on photos of solar cells, resized by area to 128 x 128, that weren't trained on. Of each photo the
peers get the best quality whose file is no larger than ours, headers included; the last column gives JPEG its
header, which is as long as a third of the smallest file, for nothing. The reference design is measured as the floats
that it was: 8 bits a pixel in place of 2, trained for about as much processor time.

Speed is that of whole files, pixels to bytes and back, of one image of 1024 x 1024 on one core, by processor time: that
tells the same on a busy machine as on an idle one. The peer is bmshj2018_factorized at quality 1; its weights are
random, since speed is all that is asked of it. As it wants an older NumPy, it gets an environment of its own in the
cache (about 5 GB, most of it torch, which uv shares with this one).

In full some 12 minutes of processor time, most of it training; with --quick 3, whose numbers say little about quality.
Trained weights are kept in the cache.
"""

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common.autoencoders import trained
from common.photo_sets import CACHE
from elpv_dataset.utils import load_dataset
from PIL import Image

from sparsight.models.autoencoder import AutoencoderDescription
from sparsight.models.autoencoder_folder import load_autoencoder
from sparsight.models.codec.codec import Codec
from sparsight.models.ssim import ssim
from sparsight.training.autoencoder import AutoencoderOptions

SIDE, TEST = 128, 200
RATES = (2.0, 1.0, 0.5, 0.25)
OURS = AutoencoderDescription(design="residual", binary=True, channels=128, cell=8, code_bits=64)
REFERENCE = AutoencoderDescription(design="reference", binary=False, channels=2, cell=2, code_bits=64)
PEER = """
import json, sys, time
import torch
from compressai.zoo import bmshj2018_factorized
torch.set_num_threads(1)
torch.manual_seed(0)
network = bmshj2018_factorized(quality=1, metric="mse", pretrained=False).eval()
network.update()
image = torch.rand(1, 3, 32, 32)
image = torch.nn.functional.interpolate(image, size=int(sys.argv[1]), mode="bicubic").clamp(0, 1)
there, back = [], []
with torch.inference_mode():
    for _ in range(int(sys.argv[2]) + 1):
        began = time.process_time()
        packed = network.compress(image)
        between = time.process_time()
        network.decompress(packed["strings"], packed["shape"])
        there.append(between - began)
        back.append(time.process_time() - between)
print(json.dumps({"compress": there[1:], "decompress": back[1:]}))
"""


def photos() -> np.ndarray:
    """All photos of elpv-dataset, uint8 N x 128 x 128, each pixel the mean of what it covers, in a random order."""
    found, _, _ = load_dataset()
    small = [np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BOX)) for each in found]
    return np.stack(small)[np.random.default_rng(0).permutation(len(small))]


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM of grey images, uint8 N x H x W: the mean."""
    tensors = [torch.from_numpy(np.ascontiguousarray(each)).unsqueeze(1).float() / 255 for each in (first, second)]
    return float(ssim(*tensors).mean())


def encoded(pixels: np.ndarray, kind: str, quality: int) -> bytes:
    """A grey JPEG or a WebP file, each as small as its encoder makes it."""
    content = io.BytesIO()
    more = {"optimize": True} if kind == "JPEG" else {"method": 6}
    Image.fromarray(pixels).save(content, kind, quality=quality, **more)
    return content.getvalue()


def best_within(pixels: np.ndarray, kind: str, budget: int, *, free_header: bool = False) -> bytes:
    """The file of highest quality that has no more bytes; the smallest one where none is so small."""
    low, high, best = 1, 100, encoded(pixels, kind, 1)
    while low <= high:
        quality = (low + high) // 2
        content = encoded(pixels, kind, quality)
        header = content.index(b"\xff\xda") if free_header else 0
        if len(content) - header <= budget:
            best, low = content, quality + 1
        else:
            high = quality - 1
    return best


def compare(codec: Codec, test: np.ndarray) -> dict[str, dict[str, float]]:
    """Sizes and SSIM of ours and of the peers, rate by rate, printed as a table."""
    print(f"\n{len(test)} photos of {SIDE} x {SIDE}; SSIM, at bits a pixel of the whole file")
    print("  asked   file    ours    JPEG    WebP    JPEG, header free")
    results = {}
    for rate in RATES:
        files = [codec.compress(np.repeat(each[..., None], 3, axis=2), rate) for each in test]
        rows: dict[str, list[np.ndarray]] = {"ours": [codec.decompress(file)[..., 0] for file in files]}
        for name, kind, free in (("jpeg", "JPEG", False), ("webp", "WEBP", False), ("jpeg_free", "JPEG", True)):
            made = [
                best_within(each, kind, len(file), free_header=free) for each, file in zip(test, files, strict=True)
            ]
            rows[name] = [np.asarray(Image.open(io.BytesIO(content)).convert("L")) for content in made]
        found = {name: likeness(test, np.stack(row)) for name, row in rows.items()}
        found["bits_per_pixel"] = 8 * sum(map(len, files)) / test.size
        results[f"{rate:g}"] = {name: round(value, 4) for name, value in found.items()}
        shown = "".join(f"{found[name]:8.4f}" for name in ("ours", "jpeg", "webp", "jpeg_free"))
        print(f"  {rate:5g}  {found['bits_per_pixel']:5.3f}{shown}", flush=True)
    return results


@torch.inference_mode()
def reference_quality(folder: Path, test: np.ndarray) -> float:
    """SSIM of the reference design as floats."""
    network, _ = load_autoencoder(folder)
    pixels = torch.from_numpy(np.repeat(test[:, None], 3, axis=1)).float() / 255
    made = torch.cat([network(part)[0].clamp(0, 1) for part in pixels.split(8)])
    return float(ssim(made, pixels).mean())


def seconds(call: Callable[[], object], times: int) -> float:
    """Processor time of a call: the median after one that doesn't count."""
    call()
    spent = []
    for _ in range(times):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def our_speed(codec: Codec, side: int, times: int) -> dict[str, dict[str, float]]:
    """Megapixels for each second of processor time, both ways, at the lowest and the full rate."""
    coarse = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    found = {}
    for rate in (min(RATES), max(RATES)):
        content = codec.compress(image, rate)
        there = seconds(lambda rate=rate: codec.compress(image, rate), times)
        back = seconds(lambda content=content: codec.decompress(content), times)
        found[f"{rate:g}"] = {"compress": side**2 / 1e6 / there, "decompress": side**2 / 1e6 / back}
    return found


def peer_speed(side: int, times: int) -> dict[str, float] | None:
    """The same of CompressAI, in its own environment; None, with the reason, where it can't be had."""
    python = peer_python()
    if python is None:
        return None
    command = [str(python), "-W", "ignore", "-c", PEER, str(side), str(times)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        print(f"CompressAI doesn't run here, so it isn't compared: {ended.stderr.strip().splitlines()[-1]}")
        return None
    spent = json.loads(ended.stdout.splitlines()[-1])
    return {name: side**2 / 1e6 / statistics.median(values) for name, values in spent.items()}


def peer_python() -> Path | None:
    """The Python of an environment with CompressAI, made by uv where there is none yet."""
    place = CACHE / "compressai"
    python = place / "bin" / "python"
    if (place / ".installed").is_file():
        return python
    version = re.search(r"^UV_VERSION := (\S+)", (Path(__file__).parents[1] / "Makefile").read_text(), re.M)
    uv = CACHE.parent / f"uv-{version[1] if version else ''}" / "bin" / "uv"
    commands = [
        [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
        [str(uv), "pip", "install", "--quiet", "--python", str(python), "compressai==1.2.8"],
    ]
    for command in commands:
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            print(f"CompressAI can't be installed here, so speed isn't compared: {said[-1]}")
            return None
    (place / ".installed").touch()
    return python


def main() -> None:
    """Parse the command line, train or find the models, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train for a minute, measure fewer photos")
    quick = parser.parse_args().quick
    grey = photos()
    test, rest = grey[: 40 if quick else TEST], grey[TEST:]
    options = AutoencoderOptions(
        epochs=1 if quick else 6, batch_size=16, learning_rate=0.002, schedule="cosine", crop_size=64,
        balance_weight=0.01, decorrelation_weight=0.01,
    )  # fmt: skip
    reference = AutoencoderOptions(
        epochs=1 if quick else 4, batch_size=16, schedule="cosine", crop_size=64, ssim_weight=0.0
    )
    codec = Codec(trained("residual", OURS, options, rest))
    results = compare(codec, test)
    side, times = (512, 2) if quick else (1024, 5)
    ours, peer = our_speed(codec, side, times), peer_speed(side, times)
    for rate, found in ours.items():
        told = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        print(f"ours at {rate} bits a pixel: {told} megapixels a second of processor time")
    lowest = ours[f"{min(RATES):g}"]
    ratios = {name: lowest[name] / value for name, value in peer.items()} if peer else {}
    if peer:
        told = ", ".join(f"{name} {value:.2f}" for name, value in peer.items())
        print(f"CompressAI bmshj2018_factorized, quality 1: {told}")
    floats = reference_quality(trained("reference", REFERENCE, reference, rest[: 200 if quick else 1200]), test)
    print(f"reference design, floats, 8 bits a pixel: SSIM {floats:.4f}")
    result = {
        "name": "compressing and decompressing at 0.25 bits a pixel, the slower of both, processor time on one core",
        "peer": "CompressAI bmshj2018_factorized, quality 1",
        "ratio": round(min(ratios.values()), 2) if ratios else None,
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
        "ssim_2bpp": results["2"]["ours"],
        "rates": results,
        "ssim_reference_8bpp": round(floats, 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
