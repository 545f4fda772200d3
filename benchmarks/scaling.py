"""Weak scaling of MoCo pre-training: images a second of one process and of several, under Horovod and torch's DDP.

Every process trains ResNet-18 on batches of its own size with one thread, by the trainer that train_moco uses. Each
round measures, one after the other:

    one        a single process, which needs no library
    apart      as many single processes side by side as the others have, which never exchange anything: what the machine
               itself gives, for processes share its memory and caches
    horovod    processes that Horovod connects (Gloo), started by our launcher
    ddp        the same trainer through a seam for torch's DistributedDataParallel (Gloo), in this file

Efficiency is the images a second of `horovod` over those of `one` times the number of processes; the ratio is
`horovod` over `ddp`. What a process spends waiting for others, sending and receiving is told as a part of its time. On
a machine with a GPU, `--gpu` instead trains the reference run's batches (128 images of 100 pixels) on it, without and
with Horovod, and says how long 15,000 images and 100 epochs take. `--plan` measures nothing: it works out hours and
price of a large run on more and more nodes, from the images a second of one GPU, the network and the price of a node.
"""

import argparse
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

ROOT = Path(__file__).parents[1]
QUEUE = 2048


def write_images(folder: Path, count: int, size: int) -> None:
    """Write packed images of noise: what is in them takes no part in how long they take."""
    from sparsight.data.artefact import new_artefact
    from sparsight.data.packed import shard_name

    with new_artefact(folder, "images", {"resize": "fit"}) as draft:
        pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        np.save(draft.folder / shard_name(0), pixels)
        index = pd.DataFrame({"id": [str(number) for number in range(count)], "shard": 0, "row": range(count)})
        index["split"], index["label"] = "train", ""
        index.to_parquet(draft.folder / "index.parquet")
        draft.counts.update(images=count, shards=1)


# What runs in each process


class Waiting:
    """Seconds spent in what processes do together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Count the time of a block."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began


def world_of(kind: str, processes: int, waiting: Waiting) -> Any:
    """Connect this process with the others."""
    from sparsight.training.distributed import HorovodProcesses, OneProcess

    if kind in {"one", "apart"}:
        return OneProcess()
    if kind == "ddp":
        return TorchProcesses(processes)

    class Timed(HorovodProcesses):
        def gather(self, tensor: Any) -> Any:
            with waiting():
                return super().gather(tensor)

        def step(self, optimiser: Any, scaler: Any) -> None:
            with waiting():
                optimiser.synchronize()
            with optimiser.skip_synchronize():
                scaler.step(optimiser)
            scaler.update()

    return Timed(processes)


class TorchProcesses:
    """The same seam for torch.distributed and DistributedDataParallel."""

    def __init__(self, planned: int) -> None:
        import torch.distributed as dist

        dist.init_process_group("gloo")
        self._dist, self.planned = dist, planned
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_rank, self.is_leader, self.recovers = self.rank, self.rank == 0, False

    def device(self) -> Any:
        """The processor."""
        import torch

        return torch.device("cpu")

    def gather(self, tensor: Any) -> Any:
        """Join tensors of one shape along the first axis."""
        import torch

        found = [torch.empty_like(tensor) for _ in range(self.size)]
        self._dist.all_gather(found, tensor.detach().contiguous())
        return torch.cat(found)

    def sum(self, tensor: Any) -> Any:
        """Add up, without gradient: MoCo asks for none."""
        total = tensor.clone()
        self._dist.all_reduce(total)
        return total

    def distribute(
        self, network: Any, optimiser: Any, *, compression: str = "none", passes: int = 1
    ) -> tuple[Any, Any]:
        """Wrap the network."""
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(network, broadcast_buffers=False), optimiser

    def step(self, optimiser: Any, scaler: Any) -> None:
        """Step; gradients are there already."""
        scaler.step(optimiser)
        scaler.update()

    def run(self, state: Any, body: Callable[[], Any], *, prepare: Callable[[], None]) -> Any:
        """Train; DDP has sent the first weights."""
        prepare()
        return body()

    def commit(self, state: Any) -> None:
        """Keep nothing."""


def work(options: argparse.Namespace) -> None:
    """Be one process: train some steps to warm up, and so many for each measurement; print what was measured."""
    import torch

    from sparsight.data.augment import Augmentation, AugmentationOptions
    from sparsight.data.packed import PackedImages
    from sparsight.models.backbones import create_backbone
    from sparsight.models.folder import BackboneDescription
    from sparsight.models.moco import MoCo, MoCoOptions
    from sparsight.models.precision import resolve_precision
    from sparsight.training.moco import MoCoTrainer
    from sparsight.training.pretraining import PretrainingOptions

    waiting = Waiting()
    world = world_of(options.worker, options.processes, waiting)
    device = world.device() if options.gpu else torch.device("cpu")
    images = PackedImages(options.images)
    torch.manual_seed(0)
    trainer = MoCoTrainer(
        MoCo(
            create_backbone(BackboneDescription(name=options.backbone, small_image_stem=images.size[0] < 64)),
            MoCoOptions(queue_size=QUEUE),
        ),
        images,
        images.positions("train"),
        [Augmentation(AugmentationOptions())] * 2,
        PretrainingOptions(batch_size=options.batch, learning_rate=1e-3),
        device=device,
        precision=resolve_precision("auto", device),
        world=world,
    )
    trainer.network.train()
    steps = endless(trainer)

    def wait() -> None:
        world.gather(torch.zeros(1))
        if options.worker == "apart":  # they have no other way to begin together
            (options.results / f"{os.getpid()}.ready").touch()
            while len(list(options.results.glob("*.ready"))) < options.processes:
                time.sleep(0.01)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(options.warm_up):
        next(steps)
    wait()
    waiting.seconds, began = 0.0, time.perf_counter()
    for _ in range(options.steps):
        next(steps)
    wait()
    seconds = time.perf_counter() - began
    told = {"images": options.steps * options.batch, "seconds": seconds, "waiting": waiting.seconds}
    (options.results / f"{os.getpid()}.json").write_text(json.dumps(told), encoding="utf-8")


def endless(trainer: Any) -> Iterator[None]:
    """Train step by step, epoch after epoch."""
    for epoch in range(10**9):
        for part in trainer.parts(epoch):
            trainer.step([part])
            yield


# What starts them


def measure(kind: str, options: argparse.Namespace) -> dict[str, float]:
    """Run processes of one kind; images a second of all of them together, and the part of time spent on each other."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, __file__, "--worker", kind, "--results", place, "--images", str(options.images)]
        for name in ("processes", "batch", "steps", "warm_up", "backbone"):
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        command += ["--gpu"] if options.gpu else []
        threads = {} if options.gpu else {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment = {**os.environ, **threads}
        if kind == "horovod":
            launcher = [sys.executable, "-m", "sparsight.local.horovod_launcher"]
            started = [[*launcher, "--processes", str(options.processes), "--shell", shlex.join(command)]]
            environments = [environment]
        else:
            count = 1 if kind == "one" else options.processes
            started = [command] * count
            loopback = next(name for name, each in psutil.net_if_addrs().items() if each[0].address == "127.0.0.1")
            meeting = {
                "GLOO_SOCKET_IFNAME": loopback,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(free_port()),
                "WORLD_SIZE": str(count),
            }
            environments = [{**environment, **meeting, "RANK": str(rank)} for rank in range(count)]
        running = [
            subprocess.Popen(each, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for each, variables in zip(started, environments, strict=True)
        ]
        outputs = [process.communicate()[0] for process in running]
        if any(process.returncode for process in running):
            sys.exit(f"{kind} failed:\n{''.join(outputs)[-3000:]}")
        told = [json.loads(path.read_text(encoding="utf-8")) for path in Path(place).glob("*.json")]
    seconds = max(each["seconds"] for each in told)
    return {
        "rate": sum(each["images"] for each in told) / seconds,
        "waiting": statistics.mean(each["waiting"] / each["seconds"] for each in told),
    }


def free_port() -> int:
    """Find a port on loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def on_processors(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all kinds, round by round, and tell."""
    kinds = ("one", "apart", "horovod", "ddp")
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in kinds:
            found[kind].append(measure(kind, options))
            print(f"round {number + 1}: {kind:<8} {found[kind][-1]['rate']:8.1f} images/s", flush=True)
    rates = {kind: [each["rate"] for each in found[kind]] for kind in kinds}

    def median(above: str, below: str, times: int = 1) -> float:
        ratios = [one / other / times for one, other in zip(rates[above], rates[below], strict=True)]
        return round(statistics.median(ratios), 3)

    processes = options.processes
    result = {
        "name": "scaling",
        "peer": "torch DistributedDataParallel (Gloo)",
        "ratio": median("horovod", "ddp"),
        "processes": processes,
        "efficiency": median("horovod", "one", processes),
        "efficiency_ddp": median("ddp", "one", processes),
        "efficiency_apart": median("apart", "one", processes),
        "efficiency_of_apart": median("horovod", "apart"),
        "waiting": round(statistics.median(each["waiting"] for each in found["horovod"]), 3),
        "images_per_second": {kind: round(statistics.median(rates[kind]), 1) for kind in kinds},
    }
    print(
        f"{processes} processes under Horovod do {result['efficiency']:.0%} of {processes} times the work of one; "
        f"under DDP {result['efficiency_ddp']:.0%}; without any exchange {result['efficiency_apart']:.0%}. "
        f"{result['waiting']:.0%} of the time goes into waiting, sending and receiving."
    )
    return result


def on_gpu(options: argparse.Namespace) -> dict[str, Any]:
    """Measure one GPU without and with Horovod, and tell how long the reference run takes on it."""
    options.processes = 1
    found: dict[str, list[float]] = {"one": [], "horovod": []}
    for number in range(options.rounds):
        for kind, rates in found.items():
            rates.append(measure(kind, options)["rate"])
            print(f"round {number + 1}: {kind:<8} {rates[-1]:8.1f} images/s", flush=True)
    overheads = [1 - with_it / without for without, with_it in zip(found["one"], found["horovod"], strict=True)]
    rate = statistics.median(found["horovod"])
    hours = 15_000 * 100 / rate / 3600
    print(f"Horovod costs {statistics.median(overheads):.1%}; 15,000 images and 100 epochs take {hours:.2f} h.")
    return {
        "name": "scaling",
        "peer": "the same without Horovod",
        "ratio": round(1 - statistics.median(overheads), 4),
        "efficiency": round(1 - statistics.median(overheads), 4),
        "hours_of_the_reference_run": round(hours, 3),
        "images_per_second": {kind: round(statistics.median(rates), 1) for kind, rates in found.items()},
    }


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """Work out a large run on 1 to 16 nodes of one GPU each, and print it as a table.

    A step takes a GPU's time for its own batch, and then, as if nothing of it were done meanwhile, the time in which a
    ring of n nodes adds up the gradients: each node sends 2 (n - 1) / n of their bytes.
    """
    from sparsight.models.backbones import create_backbone
    from sparsight.models.folder import BackboneDescription
    from sparsight.models.moco import MoCo, MoCoOptions

    backbone = create_backbone(BackboneDescription(name=options.backbone, small_image_stem=False))
    learned = [each for each in MoCo(backbone, MoCoOptions()).parameters() if each.requires_grad]
    megabytes = sum(each.numel() for each in learned) * 4 / 1e6
    print(
        f"{options.plan_images:,} images, {options.plan_epochs} epochs, {options.rate:g} images/s on one GPU, "
        f"batches of {options.batch}, {megabytes:.0f} MB of gradients at {options.gigabits:g} Gbit/s, "
        f"{options.price:g} an hour"
    )
    print(f"{'nodes':>5} {'hours':>8} {'price':>8} {'efficiency':>11} {'batch':>6}")
    rows = []
    for nodes in (1, 2, 4, 8, 16):
        alone = options.batch / options.rate
        step = alone + 2 * (nodes - 1) / nodes * megabytes * 8e-3 / options.gigabits
        hours = options.plan_images * options.plan_epochs / (options.batch * nodes) * step / 3600
        rows.append({"nodes": nodes, "hours": round(hours, 1), "price": round(hours * nodes * options.price)})
        print(f"{nodes:>5} {hours:>8.1f} {rows[-1]['price']:>8} {alone / step:>11.1%} {options.batch * nodes:>6}")
    return {"name": "scaling_plan", "peer": "one node", "ratio": round(rows[0]["hours"] / rows[-1]["hours"], 1)}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small network, one round: within a minute")
    parser.add_argument("--gpu", action="store_true", help="on one GPU, without and with Horovod")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="that are measured, after those that warm up")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128, help="images of each process in a step")
    parser.add_argument("--size", type=int, default=100, help="edge of the images in pixels")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--plan", action="store_true", help="hours and price of a large run, from these:")
    parser.add_argument("--plan-images", type=int, default=300_000)
    parser.add_argument("--plan-epochs", type=int, default=100)
    parser.add_argument("--rate", type=float, default=69.4, help="images a second of one GPU; by default a T4's")
    parser.add_argument("--gigabits", type=float, default=8.0, help="a second between two nodes")
    parser.add_argument("--price", type=float, default=0.53, help="of a node for an hour, in any currency")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    if options.plan:
        print(json.dumps(plan(options)))
        return
    if options.quick:
        options.rounds, options.steps, options.warm_up, options.batch, options.size = 1, 3, 1, 64, 48
    if options.gpu:
        options.steps, options.warm_up = 200, 20
    with tempfile.TemporaryDirectory() as place:
        options.images = Path(place) / "images"
        write_images(options.images, 4 * options.batch * max(options.processes, 2), options.size)
        result = on_gpu(options) if options.gpu else on_processors(options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
