"""Frames of a video, embedded and chosen on two cores: multiples of real time, where time goes, and peak memory.

The video is made here: 1920 x 1080 at 30 frames a second, H.264 by libx264 (preset veryfast, CRF 23, three B-frames at
most), in which photos of solar cells lie side by side as a textured ground that a camera pans over, six more move
across it, with noise, and a cut every five seconds; in every sixth scene the camera stands still. A minute is encoded,
and its packets are repeated for the longer film, so that scenes come again.

The job: every 1/10 s the nearest frame, scaled to 100 x 56, near-duplicates left out, embedded by ResNet-18, and
1,000 of them chosen by farthest point. The weights are random, which costs the same. The peer does the same but
choosing in the most straightforward way: decode every frame, turn every third one into a picture, scale it, embed in
batches.

    python benchmarks/video.py [--quick]

`realtime` is what two cores give that nothing else runs on: seconds of video by half the processor time of decoding
and embedding, which share the cores, plus all of that of choosing. Processor time tells nearly the same on a busy
machine as on an idle one; `realtime_wall` is by the wall clock, with the machine's `load` beside it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS = 1920, 1080, 30
SCENE_SECONDS = 5


def make_film(path: Path, seconds: int) -> None:
    """Encode the minute."""
    from elpv_dataset.utils import load_dataset

    photos = load_dataset()[0]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23", "bf": "3"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(seconds * FPS):
            scene, place = divmod(number, FPS * SCENE_SECONDS)
            if place == 0:
                draw = scene_of(photos, scene)
            frame = draw(place)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def scene_of(photos: NDArray[np.uint8], scene: int) -> Callable[[int], av.VideoFrame]:
    """Decide on a scene; what is returned draws its frames."""
    random = np.random.default_rng(scene)
    rows = [np.concatenate(list(photos[random.integers(0, len(photos), 9)]), axis=1) for _ in range(6)]
    ground = np.concatenate(rows)
    speed = np.zeros(2) if scene % 6 == 5 else random.uniform(-4, 4, 2)
    start, tint = random.uniform(100, 600, 2), random.integers(96, 160, 2)
    noise = [random.normal(0, 2, (HEIGHT, WIDTH)).astype(np.int16) for _ in range(4)]
    moving = photos[random.integers(0, len(photos), 6)]

    def draw(place: int) -> av.VideoFrame:
        top, left = (start + speed * place).clip(0, (ground.shape[0] - HEIGHT, ground.shape[1] - WIDTH)).astype(int)
        grey = ground[top : top + HEIGHT, left : left + WIDTH] + noise[place % 4]
        for number, photo in enumerate(moving if speed.any() else moving[:0], 1):
            y = int((HEIGHT - 300) / 2 * (1 + np.sin(place * 0.02 * number + number)))
            x = int((WIDTH - 300) / 2 * (1 + np.cos(place * 0.013 * number + 2 * number)))
            grey[y : y + 300, x : x + 300] = photo
        planes = [
            grey.clip(0, 255).astype(np.uint8),
            *(np.full((HEIGHT // 2, WIDTH // 2), each, np.uint8) for each in tint),
        ]
        return av.VideoFrame.from_ndarray(
            np.concatenate([each.reshape(-1, WIDTH) for each in planes]), format="yuv420p"
        )

    return draw


def repeat(source: Path, target: Path, times: int) -> None:
    """Copy the packets several times, one copy after the other."""
    with av.open(str(target), "w") as to:
        shift, stream = 0, None
        for _ in range(times):
            with av.open(str(source)) as film:
                template = film.streams.video[0]
                stream = stream or to.add_stream_from_template(template)
                for packet in film.demux(template):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    to.mux(packet)
                shift += round(template.frames / Fraction(FPS) / template.time_base)


def base_model() -> Any:
    """ResNet-18 with random weights, and statistics as if it had been trained."""
    from sparsight.training.base_model import open_base_model

    base = open_base_model("none", None, backbone="resnet18", image_size=100)
    base.backbone.bn1.running_mean.fill_(0.1)
    return base


def processor_seconds() -> float:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall clock and processor seconds of some work."""
    wall, processor = time.perf_counter(), processor_seconds()
    result = work()
    return result, time.perf_counter() - wall, processor_seconds() - processor


def job(film: Path, budget: int) -> dict[str, float]:
    """The whole job, in this process."""
    import torch

    from sparsight.data.video import FrameReader, Sampling, find_videos
    from sparsight.models.precision import resolve_precision
    from sparsight.selection import select
    from sparsight.training.video_embedding import FrameEmbedder

    device = torch.device("cpu")
    embedder = FrameEmbedder(base_model(), device, resolve_precision("auto", device))
    reader = FrameReader(find_videos(film), Sampling())

    def embed() -> NDArray[np.float32]:
        return np.concatenate([batch.embeddings for batch in embedder.embed(reader)])

    embeddings, wall, processor = timed(embed)
    before_choice = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    chosen = min(budget, len(embeddings) // 2)
    _, more_wall, more_processor = timed(lambda: select(embeddings, chosen, strategy="farthest_point"))
    return {
        "seconds": reader.seconds,
        "frames": len(embeddings),
        "duplicates": reader.duplicates,
        "chosen": chosen,
        "wall": wall + more_wall,
        "processor": processor + more_processor,
        "select_wall": more_wall,
        "select_processor": more_processor,
        "peak_mib_streaming": before_choice,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def job_of(film: Path, budget: int) -> dict[str, float]:
    """The job in a process of its own, for its memory."""
    command = [sys.executable, __file__, "--job", str(film), str(budget)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peer(film: Path, seconds: float) -> float:
    """The straightforward way with the first seconds of a film: multiples of real time, as if both cores were busy."""
    import torch
    from PIL import Image

    from sparsight.data.augment import normalise

    base = base_model()
    network = base.backbone.eval()

    def run() -> None:
        pixels = []
        with av.open(str(film)) as container, torch.inference_mode():
            for number, frame in enumerate(container.decode(video=0)):
                if number == seconds * FPS:
                    break
                if number % 3 == 0:
                    pixels.append(np.asarray(frame.to_image().resize((100, 56), Image.Resampling.BOX)))
                if len(pixels) == 64:
                    network(normalise(torch.from_numpy(np.stack(pixels)), base.mean, base.std))
                    pixels = []

    return seconds / (timed(run)[2] / 2)


def parts(film: Path, save: int) -> dict[str, float]:
    """Processor seconds that each part of the job takes on its own, by second of video; saving by frame."""
    import pandas as pd
    import torch

    from sparsight.data.video import FrameReader, Sampling, find_videos, save_frames
    from sparsight.data.video.decoding import Decoder
    from sparsight.data.video.opening import open_video
    from sparsight.data.video.schedule import frames_to_take, read_packets
    from sparsight.models.precision import resolve_precision
    from sparsight.training.video_embedding import FrameEmbedder

    sampling, videos = Sampling(), find_videos(film)
    packets, _, reading = timed(lambda: read_packets(film, sampling))

    def decode(fast: bool) -> int:
        wanted = set(frames_to_take(packets, Sampling(fast=fast)).tolist())
        with open_video(film, sampling.max_pixels) as (container, stream):
            return sum(1 for _ in Decoder(container, stream, 2).frames(wanted))

    decoding, exact = timed(lambda: decode(True))[2], timed(lambda: decode(False))[2]
    reader = FrameReader(videos, sampling)
    frames, _, all_of_it = timed(lambda: list(reader))
    device = torch.device("cpu")
    embedder = FrameEmbedder(base_model(), device, resolve_precision("auto", device))
    embeddings, _, embedding = timed(lambda: np.concatenate([each.embeddings for each in embedder.embed(frames)]))
    chosen = pd.DataFrame(
        {"id": [frame.id for frame in frames], "video": film.name, "time": [frame.time for frame in frames]}
    )
    chosen = chosen.iloc[np.linspace(0, len(chosen) - 1, save).astype(int)].assign(rank=np.arange(save) + 1)
    with tempfile.TemporaryDirectory() as folder:
        _, _, saving = timed(lambda: save_frames(videos, chosen, Path(folder) / "frames"))
    return {
        "packets": reading / reader.seconds,
        "decode": decoding / reader.seconds,
        "decode_exact": exact / reader.seconds,
        "scale_and_compare": max(0.0, all_of_it - decoding - reading) / reader.seconds,
        "embed": embedding / reader.seconds,
        "save_per_frame": saving / save,
        **off_by(videos, embedder, frames, embeddings),
    }


def off_by(videos: Any, embedder: Any, frames: Any, embeddings: NDArray[np.float32]) -> dict[str, float]:
    """How far frames that cost less are from the exact ones, in seconds and by the cosine of embeddings."""
    from sparsight.data.video import FrameReader, Sampling

    exact = list(FrameReader(videos, Sampling(fast=False, min_difference=0)))
    other = np.concatenate([each.embeddings for each in embedder.embed(exact)])
    times = np.array([frame.time for frame in exact])
    nearest = [int(np.abs(times - round(frame.time * 10) / 10).argmin()) for frame in frames]
    one, two = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (embeddings, other[nearest]))
    cosines = (one * two).sum(axis=1)
    return {
        "seconds_off_most": float(np.abs(times[nearest] - [frame.time for frame in frames]).max()),
        "cosine_mean": float(cosines.mean()),
        "cosine_least": float(cosines.min()),
    }


def measure(folder: Path, seconds: int, times: int, budget: int, save: int) -> None:
    """Make the films, run everything, print what was found."""
    short, long = folder / "short.mp4", folder / "long.mp4"
    _, _, making = timed(lambda: make_film(short, seconds))
    repeat(short, long, times)
    rate = short.stat().st_size * 8 / seconds / 1e6
    print(
        f"{seconds} s of 1080p H.264 at {FPS} frames/s, {rate:.1f} Mbit/s, made in {making:.0f} s of processor time",
        flush=True,
    )
    few, many = job_of(short, budget), job_of(long, budget)
    wall = many["seconds"] / many["wall"]
    realtime = many["seconds"] / ((many["processor"] - many["select_processor"]) / 2 + many["select_processor"])
    print(
        f"{many['seconds']:.0f} s of video: {many['frames']:.0f} frames embedded, {many['duplicates']:.0f} more were "
        f"like the one before, {many['chosen']:.0f} chosen in {many['wall']:.1f} s ({many['processor']:.1f} s of "
        f"processor time): {realtime:.1f} x real time with two free cores, {wall:.1f} x here at a load of "
        f"{os.getloadavg()[0]:.1f}",
        flush=True,
    )
    costs = parts(short, save)
    for name in ("packets", "decode", "decode_exact", "scale_and_compare", "embed"):
        print(f"{name:>18}: {1000 * costs[name]:6.1f} ms of a core for a second of video", flush=True)
    print(f"{'select':>18}: {1000 * many['select_processor'] / many['seconds']:6.1f}", flush=True)
    print(f"{'save':>18}: {1000 * costs['save_per_frame']:6.1f} ms of a core for a frame", flush=True)
    print(
        f"frames are at most {1000 * costs['seconds_off_most']:.0f} ms from the exact ones, the cosine between their "
        f"embeddings is {costs['cosine_mean']:.4f} on average, {costs['cosine_least']:.4f} at least",
        flush=True,
    )
    peaks = {f"{each['seconds']:.0f} s": round(each["peak_mib_streaming"]) for each in (few, many)}
    print("peak memory while embedding: " + ", ".join(f"{each} MiB for {length}" for length, each in peaks.items()))
    straight = peer(short, min(10, seconds))
    print(f"the straightforward way: {straight:.1f} x real time", flush=True)
    result = {
        "name": "video",
        "peer": "PyAV decoding every frame, Pillow, torch",
        "ratio": round(realtime / straight, 2),
        "realtime": round(realtime, 1),
        "realtime_wall": round(wall, 1),
        "peer_realtime": round(straight, 2),
        "frames": int(many["frames"]),
        "duplicates": int(many["duplicates"]),
        "chosen": int(many["chosen"]),
        "core_ms_per_second_of_video": {
            name: round(1000 * costs[name], 1) for name in ("packets", "decode", "scale_and_compare", "embed")
        }
        | {"select": round(1000 * many["select_processor"] / many["seconds"], 1)},
        "save_core_ms_per_frame": round(1000 * costs["save_per_frame"], 1),
        "cosine_mean": round(costs["cosine_mean"], 5),
        "peak_mib": peaks,
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter film: about a minute on two idle cores")
    parser.add_argument("--job", nargs=2, metavar=("FILM", "BUDGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as for the steps: threads that wait don't spin for long
    if arguments.job:
        print(json.dumps(job(Path(arguments.job[0]), int(arguments.job[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.quick:
            measure(Path(folder), 10, 3, 1000, 20)
        else:
            measure(Path(folder), 60, 4, 1000, 100)


if __name__ == "__main__":
    main()
