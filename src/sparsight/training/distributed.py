"""Several processes that train one network: what a training loop needs of them, and Horovod as who gives it.

A loop is written once, against `Processes`. One process alone is `OneProcess`; several are `HorovodProcesses`, which
the launcher of a run starts (Horovod's own or Open MPI). Another library, such as torch's own DistributedDataParallel,
takes part by a class with the same methods.
"""

import copy
import io
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsight.errors import SparsightError
from sparsight.models.precision import best_device
from sparsight.models.world import Alone, World

Compression = Literal["none", "fp16"]
Scaling = Literal["linear", "sqrt", "none"]
ResultT = TypeVar("ResultT")
_LOSSES = 4
"""So many times in a row processes may lose each other before a commit: what is wrong then isn't a lost process."""


class Recoverable(Protocol):
    """What a training goes on from: its whole state, as tensors and plain values."""

    def snapshot(self) -> dict[str, Any]:
        """Give the state; tensors may be the living ones."""

    def load(self, snapshot: dict[str, Any]) -> None:
        """Take a state over, leaving the snapshot as it is."""


def _nothing() -> None:
    pass


class Processes(World, Protocol):
    """The processes that train one network, each on its part of every batch."""

    @property
    def planned(self) -> int:
        """The number of processes asked for; one that was lost, and not yet replaced, counts."""

    @property
    def local_rank(self) -> int:
        """The number of this process on its machine, from 0."""

    @property
    def is_leader(self) -> bool:
        """Whether this process tracks, writes and registers; should it be lost, another one does."""

    def distribute(
        self, network: nn.Module, optimiser: Optimizer, *, compression: Compression = "none", passes: int = 1
    ) -> tuple[nn.Module, Optimizer]:
        """Make gradients the mean over all processes.

        Args:
            network: whose parameters are learned, the same in all processes.
            optimiser: over its parameters.
            compression: how gradients travel: as they are, or as float16, which halves the traffic.
            passes: backward passes whose gradients are added up before they travel.

        Returns:
            What to call in place of the network, and what to step with in place of the optimiser.
        """

    def step(self, optimiser: Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Step with the gradients of all processes."""

    @property
    def recovers(self) -> bool:
        """Whether a lost process is replaced, and the others go back to the last commit."""

    def device(self) -> torch.device:
        """The device of this process: a GPU of its own where there is one, else the processor.

        Raises:
            SparsightError: GPUs are too few, or this build of Horovod can't use them.
        """

    def run(
        self, state: Recoverable, body: Callable[[], ResultT], *, prepare: Callable[[], None] = _nothing
    ) -> ResultT:
        """Bring all processes to the leader's state, then train; where a process is lost, go back and go on.

        Before `body`, and in it after such a loss, a process that was started in place of a lost one joins: nothing
        that all processes take part in may happen before this is called.

        Args:
            state: of the training, as last committed where a process is lost.
            body: trains from this state to the end, and returns when all have come there.
            prepare: is called in the leader before anything is committed, again where that leader is lost.
        """

    def commit(self, state: Recoverable) -> None:
        """Keep a state to go back to, where processes are replaced. All commit at the same point, in the same state."""


class OneProcess(Alone):
    """One process alone, which needs no library."""

    planned = 1
    local_rank = 0
    is_leader = True

    def distribute(
        self, network: nn.Module, optimiser: Optimizer, *, compression: Compression = "none", passes: int = 1
    ) -> tuple[nn.Module, Optimizer]:
        """Give both back."""
        return network, optimiser

    def step(self, optimiser: Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Step."""
        scaler.step(optimiser)
        scaler.update()

    recovers = False

    def device(self) -> torch.device:
        """The first GPU where there is one, else the processor."""
        return best_device()

    def run(
        self, state: Recoverable, body: Callable[[], ResultT], *, prepare: Callable[[], None] = _nothing
    ) -> ResultT:
        """Prepare, and train."""
        prepare()
        return body()

    def commit(self, state: Recoverable) -> None:
        """Do nothing: where this process is lost, so is what it would keep."""


class HorovodProcesses:
    """Processes that Horovod connects: Gloo on a laptop, MPI and NCCL on a cluster.

    Where the launcher replaces lost processes (HOROVOD_ELASTIC=1), those that are left go on from the last commit with
    whoever is there. Otherwise a lost process ends all others, and the training goes on from its last checkpoint when
    the step is run again.

    Args:
        planned: the number of processes asked for.

    Raises:
        SparsightError: Horovod isn't installed, or another number of processes was started.
    """

    def __init__(self, planned: int) -> None:
        self._hvd = _horovod()
        self.planned = planned
        self._hvd.init()
        self.recovers = os.environ.get("HOROVOD_ELASTIC") == "1"
        self._committed: dict[str, Any] = {}
        self._losses = 0
        if self.size != planned and not (self.recovers and self.size <= planned):
            raise SparsightError(
                f"processes x instances is {planned}, but {self.size} processes were started together.",
                hint="Start the step with execute.py run or submit, or set the component's distribution and "
                "instance_count to the same numbers.",
            )

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return int(self._hvd.rank())

    @property
    def size(self) -> int:
        """The number of processes that are there now."""
        return int(self._hvd.size())

    @property
    def local_rank(self) -> int:
        """The number of this process on its machine, from 0; a replacement has that of the lost one."""
        return int(os.environ.get("SPARSIGHT_LOCAL_RANK") or self._hvd.local_rank())

    @property
    def is_leader(self) -> bool:
        """Whether this is the process of rank 0, the oldest one."""
        return self.rank == 0

    def gather(self, tensor: Tensor) -> Tensor:
        """Join the tensors of all processes along the first axis, in the order of ranks; no gradient passes."""
        return cast(Tensor, self._hvd.allgather(tensor.detach().contiguous(), name="gather"))

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up the tensors of all processes; gradients pass."""
        return cast(Tensor, _Sum.apply(tensor))

    def device(self) -> torch.device:
        """A GPU of this process's own where there is one, else the processor.

        Raises:
            SparsightError: there are more processes on this machine than GPUs, or Horovod was built without NCCL.
        """
        device = best_device(self.local_rank)
        if device.type == "cpu":
            return device
        hide = "hide the GPUs from the step: CUDA_VISIBLE_DEVICES= "
        here = self.planned if self.recovers else int(self._hvd.local_size())
        if here > torch.cuda.device_count():
            raise SparsightError(
                f"{here} processes on this machine share {torch.cuda.device_count()} GPUs; each needs one of its own.",
                hint=f"Lower processes, or {hide}",
            )
        if not self._hvd.nccl_built():
            raise SparsightError(
                "There are GPUs, and this Horovod was built without NCCL: it can't exchange what is on them.",
                hint=f"Run `python environments/build_horovod.py --gloo --nccl --install`, or {hide}",
            )
        torch.cuda.set_device(device)
        return device

    def distribute(
        self, network: nn.Module, optimiser: Optimizer, *, compression: Compression = "none", passes: int = 1
    ) -> tuple[nn.Module, Optimizer]:
        """Wrap the optimiser: gradients travel while the backward pass goes on."""
        learned = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        wrapped = self._hvd.DistributedOptimizer(
            optimiser,
            named_parameters=learned,
            compression=_Dense(getattr(self._hvd.Compression, compression)),
            backward_passes_per_step=passes,
            op=self._hvd.Average,
        )
        return network, cast(Optimizer, wrapped)

    def step(self, optimiser: Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Wait for the gradients of all processes, and step."""
        optimiser.synchronize()  # type: ignore[attr-defined]
        with optimiser.skip_synchronize():  # type: ignore[attr-defined]
            scaler.step(optimiser)
        scaler.update()

    def run(
        self, state: Recoverable, body: Callable[[], ResultT], *, prepare: Callable[[], None] = _nothing
    ) -> ResultT:
        """Bring all processes to the leader's state, then train; where one is lost, go on from the last commit.

        Raises:
            SparsightError: processes can't be replaced here, or lose each other again and again between two commits.
        """
        from horovod.common.exceptions import HorovodInternalError

        self._committed, self._losses = {}, 0
        while True:
            try:
                if self.is_leader and not self._committed:
                    prepare()
                state.load(self._of_leader(self._committed or state.snapshot()))
                self._committed = copy.deepcopy(state.snapshot())
                result = body()
                self.gather(torch.zeros(1))  # nobody leaves before all are done
                return result
            except HorovodInternalError as error:
                reason = str(error).partition("\n")[0]
                self._losses += 1
                if not self.recovers or self._losses > _LOSSES:
                    raise SparsightError(
                        f"The processes of this step lost each other: {reason}",
                        hint="The log of one of them says why; run the step again to go on.",
                    ) from error
                told = f"rank {self.rank}: going back to the last commit, since processes lost each other: {reason}"
                print(told, file=sys.stderr, flush=True)
                if self._committed:
                    state.load(self._committed)
                self._meet_again()

    def commit(self, state: Recoverable) -> None:
        """Keep a copy of a state, where it can be of use."""
        self._losses = 0
        if self.recovers:
            self._committed = copy.deepcopy(state.snapshot())

    def _meet_again(self) -> None:
        self._hvd.shutdown()
        try:
            self._hvd.init()
        except ValueError as error:  # what Horovod raises for good once a meeting has failed
            raise SparsightError(
                "Another process was lost while those that were left met again.",
                hint="Run the step again: it goes on after the last whole epoch.",
            ) from error

    def _of_leader(self, content: dict[str, Any]) -> dict[str, Any]:
        """Send tensors and plain values from the leader to all; nothing that arrives can run code."""
        packed = torch.empty(0, dtype=torch.uint8)
        if self.is_leader:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            packed = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        length = self._hvd.broadcast(torch.tensor(len(packed)), root_rank=0, name="length")
        if not self.is_leader:
            packed = torch.empty(int(length), dtype=torch.uint8)
        received = self._hvd.broadcast(packed, root_rank=0, name="state")
        return cast(dict[str, Any], torch.load(io.BytesIO(received.numpy().tobytes()), "cpu", weights_only=True))


class _Sum(torch.autograd.Function):
    """The sum over all processes; backward, the sum of what flows back in each."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        """Add up."""
        hvd = _horovod()
        return cast(Tensor, hvd.allreduce(tensor.contiguous(), op=hvd.Sum, name="sum"))

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """Add up gradients."""
        hvd = _horovod()
        return cast(Tensor, hvd.allreduce(gradient.contiguous(), op=hvd.Sum, name="sum.gradient"))


class _Dense:
    """Lays out gradients as Horovod takes them, and compresses them; those of channels-last weights aren't copied."""

    def __init__(self, compression: Any) -> None:
        self._compression = compression

    def compress(self, gradient: Tensor) -> tuple[Tensor, tuple[bool, Any]]:
        """Give what travels, and what is needed to undo it."""
        turned = gradient.dim() == 4 and not gradient.is_contiguous()
        dense = gradient.permute(0, 2, 3, 1) if turned else gradient
        compressed, context = self._compression.compress(dense.contiguous())
        return compressed, (turned, context)

    def decompress(self, compressed: Tensor, context: tuple[bool, Any]) -> Tensor:
        """Turn what travelled into a gradient."""
        turned, inner = context
        gradient = cast(Tensor, self._compression.decompress(compressed, inner))
        return gradient.permute(0, 3, 1, 2) if turned else gradient


def start_processes(processes: int, instances: int) -> Processes:
    """Take part in the processes that a step was started as.

    Args:
        processes: on each machine.
        instances: machines.

    Returns:
        One process where that is all, and nobody asks for Horovod; else those that the launcher started.

    Raises:
        SparsightError: Horovod isn't installed, or another number of processes was started.
    """
    planned = processes * instances
    if planned < 1:
        raise SparsightError(f"processes is {processes} and instances {instances}; expected 1 or more of each.")
    if planned == 1 and int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        raise SparsightError(
            f"processes x instances is 1, but {os.environ['OMPI_COMM_WORLD_SIZE']} processes were started together.",
            hint="Give the step its numbers of processes and instances as inputs, too.",
        )
    return OneProcess() if planned == 1 else HorovodProcesses(planned)


def part_of(world: Processes, count: int) -> slice:
    """The places of a batch of `count` images that are this process's: as even as can be, in the order of ranks."""
    return slice(count * world.rank // world.size, count * (world.rank + 1) // world.size)


def scaled_learning_rate(rate: float, times: int, scaling: Scaling) -> float:
    """The learning rate for batches that are so many times as large.

    `linear` multiplies it as often (Goyal et al. 2017, arXiv 1706.02677), which holds after a warm-up and up to some
    thousand images; `sqrt` multiplies it by the root (Krizhevsky 2014, arXiv 1404.5997); `none` leaves it.
    """
    return rate * {"linear": float(times), "sqrt": math.sqrt(times), "none": 1.0}[scaling]


def average_statistics(world: Processes, network: nn.Module) -> None:
    """Set batch norm's running statistics, which each process measures on its own images, to their mean over all."""
    if world.size == 1:
        return
    named = {"running_mean", "running_var"}
    kept = [buffer for name, buffer in network.named_buffers() if name.rpartition(".")[2] in named]
    if not kept:
        return
    means = world.sum(torch.cat([buffer.flatten() for buffer in kept])) / world.size
    for buffer, mean in zip(kept, torch.split(means, [buffer.numel() for buffer in kept]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def losses_of_all(world: Processes, losses: Sequence[Tensor]) -> Tensor:
    """The losses of some steps as each process has them: float32, processes x steps; all take part."""
    return world.gather(torch.stack(list(losses)).float().unsqueeze(0))


def first_bad(losses: Tensor) -> tuple[int, int] | None:
    """Find the first step whose loss isn't finite somewhere, and the first rank where it isn't; None where all are."""
    bad = ~losses.isfinite()
    if not bad.any():
        return None
    step = int(bad.any(dim=0).nonzero()[0])
    return step, int(bad[:, step].nonzero()[0])


def exchange(world: Processes, message: Any) -> list[Any]:
    """Tell all processes something, as JSON, and return what all have told, in the order of ranks."""
    line = f"{json.dumps(message)}\n".encode()
    lines = world.gather(torch.frombuffer(bytearray(line), dtype=torch.uint8))
    return [json.loads(each) for each in lines.numpy().tobytes().splitlines()]


def agreed(world: Processes, answer: bool) -> bool:
    """Let all processes go by the leader's answer to a question about its folders, which others may not see.

    Processes that can be replaced share a machine, so each answers for itself: a replacement asks at another time.
    """
    return answer if world.recovers else bool(exchange(world, answer)[0])


def odd_weights(world: Processes, network: nn.Module) -> str:
    """Compare learned weights over all processes, layer by layer, up to rounding; all take part.

    Returns:
        What is wrong, the same in all processes: weights that aren't finite, or others than the first process has;
        empty where nothing is.
    """
    named = [(name, each.detach()) for name, each in network.named_parameters() if each.requires_grad]
    norms = world.gather(torch.stack([each.double().norm() for _, each in named]).unsqueeze(0))
    for rank, row in enumerate(norms):
        where = f" of rank {rank}" if len(norms) > 1 else ""
        if not row.isfinite().all():
            return f"weights{where} aren't finite"
        apart = ((row - norms[0]).abs() > 1e-4 * norms[0].abs() + 1e-12).nonzero().flatten().tolist()
        if apart:
            return f"{named[apart[0]][0]}{where} has norm {row[apart[0]]:.6g}, that of rank 0 {norms[0][apart[0]]:.6g}"
    return ""


def _horovod() -> Any:
    try:
        import horovod.torch as hvd
    except ImportError as error:
        raise SparsightError(
            f"A step in several processes needs Horovod, which can't be imported here: {error}.",
            hint="On this machine `make horovod` builds and installs it; or set processes and instances to 1.",
        ) from error
    return hvd
