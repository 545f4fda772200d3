"""Farthest point sampling against exact peers, all but the last of which bring all points up to date after each choice.

    naive       NumPy: differences, squares, sums
    product     NumPy: one matrix-vector product a step, as |a|^2 + |b|^2 - 2 ab
    torch       the same in torch
    fpsample    fps_sampling, compiled; where it is installed (pip install fpsample)
    k-d line    fpsample's bucket_fps_kdline_sampling, a k-d tree; up to 8 dimensions. It takes a start of its own, so
                this one is compared from there

Every contender has one thread, and processor time is what counts: it tells the same on a busy machine as on an idle
one. But for the k-d line, each step of a peer does the same work, so some hundred steps tell how long all take. `ours`
is timed whole; what it gives besides, each point's nearest choice and its distance, the peers don't.

Two kinds of data: `mixture` has the shape that features of photos have, 100 groups of unequal spread, each in 12
dimensions of its own, and a little noise; `isotropic`, a single Gaussian, is the worst case, as nothing is near
anything. The ratio claimed is the worse of the two at 512 dimensions. A share of the bandwidth above 100 % means that
less was read than all points after each choice.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sparsight.selection.farthest_point import FarthestPoints, farthest_point
from sparsight.selection.points import Points

try:
    import fpsample
except ImportError:
    fpsample = None

Points32 = NDArray[np.float32]
CLAIMED = 512


@dataclass(frozen=True)
class Task:
    """So many points of so many dimensions, of which so many are chosen."""

    points: int
    dimensions: int
    budget: int

    def data(self, kind: str) -> Points32:
        """Make points of a kind from a seed."""
        random = np.random.default_rng(0)
        if kind == "isotropic":
            return random.standard_normal((self.points, self.dimensions), dtype=np.float32)
        groups, own = 100, min(12, self.dimensions)
        centres = random.standard_normal((groups, self.dimensions), dtype=np.float32)
        axes = random.standard_normal((groups, own, self.dimensions), dtype=np.float32) / np.sqrt(own)
        axes *= random.uniform(0.3, 0.9, (groups, 1, 1)).astype(np.float32)
        owners = random.integers(0, groups, self.points)
        points = 0.05 * random.standard_normal((self.points, self.dimensions), dtype=np.float32)
        for group in range(groups):
            members = np.flatnonzero(owners == group)
            points[members] += (
                centres[group] + random.standard_normal((len(members), own), dtype=np.float32) @ axes[group]
            )
        return points

    def gigabytes(self) -> float:
        """What is read where all points are brought up to date after each choice."""
        return self.points * self.dimensions * 4 * self.budget / 1e9


def greedy(points: Points32, update: Callable[[int], Points32], steps: int) -> NDArray[np.int64]:
    """Choose the farthest point again and again; `update` gives squared distances to the last choice."""
    squared = np.full(len(points), np.inf, np.float32)
    order = [0]
    for _ in range(steps - 1):
        np.minimum(squared, update(order[-1]), out=squared)
        order.append(int(squared.argmax()))
    return np.array(order)


def naive(points: Points32, steps: int) -> NDArray[np.int64]:
    """Differences, squares, sums."""
    return greedy(points, lambda row: np.square(points - points[row]).sum(axis=1), steps)


def product(points: Points32, steps: int) -> NDArray[np.int64]:
    """One product of BLAS a step."""
    lengths = np.einsum("ij,ij->i", points, points)
    return greedy(points, lambda row: lengths + lengths[row] - 2 * (points @ points[row]), steps)


def in_torch(points: Points32, steps: int) -> NDArray[np.int64]:
    """The same in torch."""
    rows = torch.from_numpy(points)
    lengths = rows.square().sum(1)
    squared = torch.full((len(rows),), torch.inf)
    order = [0]
    for _ in range(steps - 1):
        row = order[-1]
        torch.minimum(squared, torch.addmv(lengths + lengths[row], rows, rows[row], alpha=-2), out=squared)
        order.append(int(squared.argmax()))
    return np.array(order)


def compiled(points: Points32, steps: int) -> NDArray[np.int64]:
    """Compiled loops."""
    return fpsample.fps_sampling(points, steps, start_idx=0).astype(np.int64)


def kd_line(points: Points32, steps: int) -> NDArray[np.int64]:
    """A k-d tree; 7 is the height that is fastest here."""
    return fpsample.bucket_fps_kdline_sampling(points, steps, 7).astype(np.int64)


def ours(points: Points32, budget: int, start: int = 0) -> FarthestPoints:
    """All of it, from the array to each point's nearest choice."""
    return farthest_point(Points(points, device=torch.device("cpu")), budget, start=start)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, and what came out."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def bandwidth() -> float:
    """Gigabytes a second that one thread reads and writes when it copies."""
    source = np.ones(2**26, np.float32)
    target = np.zeros_like(source)
    return 2 * source.nbytes / 1e9 / min(timed(lambda: np.copyto(target, source))[0] for _ in range(9))


def agreement(points: Points32, mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> str:
    """Say whether the order is the same; if not, how close a tie was where it first differs."""
    mine = mine[: len(theirs)]
    if (mine == theirs).all():
        return f"the same {len(theirs):,}"
    place = int((mine != theirs).argmax())
    exact = points.astype(np.float64)
    far = [float(((exact[mine[:place]] - exact[row]) ** 2).sum(axis=1).min()) for row in (mine[place], theirs[place])]
    assert far[0] >= far[1], "a peer found a farther point"
    same = (mine == theirs).mean()
    return f"{same:.2%} the same; differs first at {place:,}, where ours is farther by {1 - far[1] / far[0]:.0e}"


def peers(task: Task) -> Iterator[tuple[str, Callable[[Points32, int], NDArray[np.int64]], bool]]:
    """Name, what to call, and whether part of the steps tells the time of all."""
    yield from (("naive", naive, True), ("product", product, True), ("torch", in_torch, True))
    if fpsample is not None:
        yield "fpsample", compiled, True
        if task.dimensions <= 8:
            yield "k-d line", kd_line, False


def measure(task: Task, kind: str, steps: int, rounds: int, copied: float) -> dict[str, float]:
    """Time all contenders in turns, and print a table; returns seconds by name."""
    points = task.data(kind)
    print(f"\n{task.points:,} x {task.dimensions}, {task.budget:,} chosen, {kind}")
    seconds: dict[str, list[float]] = {"ours": []}
    said = {"ours": ""}
    for _ in range(rounds):
        spent, found = timed(lambda: ours(points, task.budget))
        seconds["ours"].append(spent)
        for name, call, partly in peers(task):
            count = min(steps, task.budget) if partly else task.budget
            spent, order = timed(lambda call=call, count=count: call(points, count))
            seconds.setdefault(name, []).append(spent * task.budget / count)
            said[name] = said.get(name) or agreement(
                points, found.order if partly else ours(points, task.budget, int(order[0])).order, order
            )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        share = task.gigabytes() / value / copied
        ratio = f"{value / medians['ours']:6.2f} x ours" if name != "ours" else " " * 13
        print(f"  {name:<9}{value:9.2f} s  {ratio}  {share:7.0%} of the bandwidth  {said[name]}", flush=True)
    return medians


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer choices, peers timed over fewer steps; no million")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    tasks = [Task(50_000, dimensions, 1_000 if quick else 5_000) for dimensions in (8, 20, CLAIMED)]
    if not quick:
        tasks.append(Task(1_000_000, 20, 1_000))
    if fpsample is None:
        print("fpsample isn't installed, so it isn't among the peers: pip install fpsample")
    ratios: dict[str, float] = {}
    with threadpool_limits(1):
        copied = bandwidth()
        print(f"One thread copies at {copied:.1f} GB/s, read and written")
        for task in tasks:
            for kind in ("mixture", "isotropic"):
                medians = measure(task, kind, 12 if quick else 150, 1 if quick else 3, copied)
                best = min(value for name, value in medians.items() if name != "ours")
                ratios[f"{task.points:,} x {task.dimensions} {kind}"] = round(best / medians["ours"], 2)
    claimed = [ratio for name, ratio in ratios.items() if f"x {CLAIMED} " in name]
    result = {
        "name": f"farthest points at d = {CLAIMED}, processor time on one thread, the worse of two kinds of data",
        "peer": "the best exact peer of NumPy, NumPy with BLAS, torch"
        + (" and fpsample, up to 8 dimensions its k-d tree, too" if fpsample else ""),
        "ratio": min(claimed),
        "ratios": ratios,
        "copied_gb_per_second": round(copied, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
