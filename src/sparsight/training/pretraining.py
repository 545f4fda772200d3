"""Pre-training without labels over packed images: the loop, its checkpoint, and what it tells of itself.

What a method makes of a batch is its own: see `moco`, `swav`, `two_views`.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.optim import SGD

from sparsight.data.augment import Augmentation, Drawn
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.precision import mixed
from sparsight.models.self_supervised import SelfSupervised, spread
from sparsight.progress import Progress
from sparsight.training.checkpoints import CHECKPOINT, Resumable
from sparsight.training.distributed import (
    Compression,
    OneProcess,
    Processes,
    Scaling,
    average_statistics,
    exchange,
    first_bad,
    losses_of_all,
    odd_weights,
    part_of,
    scaled_learning_rate,
)
from sparsight.training.frames import Frames
from sparsight.training.loop import epoch_generator, fetch_ahead, shuffled_batches
from sparsight.training.schedules import cosine_with_warmup

_STEPS_BETWEEN_CHECKS = 20


@dataclass(frozen=True, kw_only=True)
class PretrainingOptions:
    """How a network is pre-trained, whatever the method: SGD with a cosine schedule after a warm-up."""

    epochs: int = 100
    batch_size: int = 128
    """Images in each process."""
    learning_rate: float = 6e-2
    """Its peak, for one process."""
    sgd_momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 5
    """Epochs of a rising learning rate; at most half of all epochs are spent so."""
    probe_every: int = 5
    """Epochs from one probe to the next; the last epoch is always probed."""
    learning_rate_scaling: Scaling = "linear"
    """How the learning rate grows with the images in a step."""
    backward_passes_per_step: int = 1
    """Batches whose gradients are added up for one step."""
    gradient_compression: Compression = "none"
    commit_every: int = 50
    """Steps from one commit, which a training goes back to where a process is lost, to the next."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What is known after an epoch; `probe` is empty where none was due."""

    epoch: int
    loss: float
    learning_rate: float
    spread: float
    probe: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """The numbers by name, as they are tracked."""
        return {"loss": self.loss, "learning_rate": self.learning_rate, "spread": self.spread, **self.probe}


Probe = Callable[[torch.nn.Module], dict[str, float]]
NetworkT = TypeVar("NetworkT", bound=SelfSupervised)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch of N images that all processes share, and what is drawn for it, the same in all of them.

    Attributes:
        count: N.
        positions: int64, N; or 2 N where every second view is of another frame: those frames come after the others.
        drawn: what makes each view of the N images.
        orders: orders of the N images, for a method that wants some.
    """

    count: int
    positions: NDArray[np.int64]
    drawn: Sequence[Drawn]
    orders: Sequence[Tensor] = ()

    def seen_in(self, view: int, places: Tensor) -> Tensor:
        """The places in `positions` of what some of the N images show in a view."""
        return places + self.count * (view % 2) if len(self.positions) > self.count else places


@dataclass(frozen=True, kw_only=True)
class Part:
    """The part of a batch that a process works on: the pixels at some places, uint8 n x H x W x 3."""

    batch: Batch
    places: Tensor
    pixels: Tensor

    def at(self, places: Tensor) -> Tensor:
        """The pixels of some of these places."""
        return self.pixels[torch.searchsorted(self.places, places).to(self.pixels.device)]


class Pretrainer(Resumable[EpochRecord], Generic[NetworkT]):
    """Trains a network, epoch by epoch, and can be taken up again after any of them.

    All randomness of an epoch comes from a generator made of seed and epoch. With the whole network and the optimiser's
    state in the checkpoint, training goes on after an interruption as if there had been none: on a CPU with as many
    threads, and on one kind of GPU, to the same bits.

    Several processes deal every batch out among themselves. The order of images, and the views of each, are those that
    one process would make of a batch as large; only batch norm sees the images of one process at a time.

    Args:
        network: what to train; it is moved to the device.
        images: packed images.
        positions: of the images to train on.
        views: makes the views of an image, one each.
        options: of the training.
        device: where to.
        precision: of matrix products.
        world: the processes that train it.
        frames: where images are frames of videos: which go together, and which stay apart.

    Raises:
        SparsightError: options that can't work, or fewer images than a batch.
    """

    options: PretrainingOptions

    def __init__(
        self,
        network: NetworkT,
        images: PackedImages,
        positions: NDArray[np.int64],
        views: Sequence[Augmentation],
        options: PretrainingOptions,
        *,
        device: torch.device,
        precision: torch.dtype,
        world: Processes | None = None,
        frames: Frames | None = None,
    ) -> None:
        self.world = world or OneProcess()
        _check(options, len(positions), self.world.planned)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.images, self.positions, self.views, self.frames = images, positions, views, frames
        self.options, self.device, self.precision = options, device, precision
        self.check()
        optimiser = SGD(
            network.parameter_groups(),
            options.learning_rate,
            options.sgd_momentum,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.model, self.optimiser = self.world.distribute(
            self.network,
            optimiser,
            compression=options.gradient_compression,
            passes=options.backward_passes_per_step,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.history: list[EpochRecord] = []
        self.run_id = ""
        self._steps, self._loss_sum = 0, 0.0
        self._recent: list[Tensor] = []
        torch.backends.cudnn.deterministic = True

    # What a method gives

    @abstractmethod
    def compare(self, part: Part) -> tuple[Tensor, Tensor]:
        """Make the views of this process's part of a batch, and compare them.

        Returns:
            This process's share of the loss, whose mean over all processes is the loss of the batch; and projections of
            the whole batch, the same in every process: for `spread`, and for the network's `after_step`.
        """

    def check(self) -> None:
        """Refuse options that can't work together, with a SparsightError."""

    def orders(self, count: int, generator: Generator) -> list[Tensor]:
        """Draw the orders of a batch's images that the method wants."""
        return []

    def places(self, batch: Batch) -> Tensor:
        """The places of a batch whose pixels this process needs, rising."""
        own = self.own(batch)
        places: Tensor = torch.unique(torch.cat([batch.seen_in(view, own) for view in range(len(self.views))]))
        return places

    def judge(self) -> None:
        """Look at what is known after an epoch, in all processes: warn, or end them all with a SparsightError."""

    # What methods take

    @property
    def batch_size(self) -> int:
        """Images of all processes in one pass."""
        return self.options.batch_size * self.world.planned

    @property
    def images_per_step(self) -> int:
        """Images of all processes and passes."""
        return self.batch_size * self.options.backward_passes_per_step

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps in an epoch."""
        return len(self.positions) // self.images_per_step

    @property
    def steps_done(self) -> int:
        """Steps since the training began."""
        return len(self.history) * self.steps_per_epoch + self._steps

    def own(self, batch: Batch) -> Tensor:
        """The places of this process's images: int64, rising by 1."""
        mine = part_of(self.world, batch.count)
        return torch.arange(mine.start, mine.stop)

    def weight(self, batch: Batch) -> float:
        """What turns the mean over this process's images into its share of the mean over all."""
        return len(self.own(batch)) * self.world.size / batch.count

    def view(self, part: Part, number: int, places: Tensor) -> Tensor:
        """Make one view of some of a batch's images: float32, n x 3 x H x W."""
        batch = part.batch
        return self.views[number].apply(part.at(batch.seen_in(number, places)), batch.drawn[number].at(places))

    def mixed(self) -> torch.autocast:
        """The context in which networks run."""
        return mixed(self.device, self.precision)

    # The loop

    def fit(
        self,
        folder: Path,
        *,
        report: Callable[[EpochRecord], None],
        probe: Probe | None = None,
        begin: Callable[[], str] = lambda: "",
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """Train up to the last epoch, from the folder's checkpoint where it has one.

        Args:
            folder: where the leader keeps the checkpoint.
            report: is called in the leader after each epoch, first for those of the checkpoint.
            probe: looks at the backbone now and then, in the leader, and gives numbers by name.
            begin: is called in the leader before anything else, and names its run; `self.run_id` tells it to all.
            finish: is called in the leader after the last epoch, while the others wait.

        Raises:
            SparsightError: training diverged or got stuck, or the checkpoint is damaged.
        """

        def train() -> None:
            while len(self.history) < self.options.epochs:
                record = self._epoch(len(self.history), probe)
                self.history.append(record)
                self._steps, self._loss_sum = 0, 0.0
                if self.world.is_leader:
                    self.save(folder / CHECKPOINT)
                    report(record)
                self.judge()
                self.world.commit(self)
            if self.world.is_leader:
                finish()

        self.world.run(self, train, prepare=lambda: self.take_up(folder, begin, report))

    def snapshot(self) -> dict[str, Any]:
        """All that training needs to go on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [vars(record) for record in self.history],
            "steps": self._steps,
            "loss_sum": self._loss_sum,
            "run_id": self.run_id,
        }

    def load(self, snapshot: dict[str, Any]) -> None:
        """Take over where a snapshot was made."""
        self.network.load_state_dict(snapshot["network"])
        self.optimiser.load_state_dict(copy.deepcopy(snapshot["optimiser"]))
        self.optimiser.zero_grad()
        self.scaler.load_state_dict(snapshot["scaler"])
        self.history = [EpochRecord(**record) for record in snapshot["history"]]
        self._steps, self._loss_sum, self.run_id = snapshot["steps"], snapshot["loss_sum"], snapshot["run_id"]
        self._recent.clear()

    def _epoch(self, epoch: int, probe: Probe | None) -> EpochRecord:
        """Train from where the epoch stands up to its end."""
        if self._steps:
            print(f"Going on in epoch {epoch + 1} after step {self._steps}.", flush=True)
        self.network.train()
        title, steps, images = f"epoch {epoch + 1}/{self.options.epochs}", self.steps_per_epoch, self.images_per_step
        progress = Progress(title, steps * images, "images", done=self._steps * images, every=10.0)
        parts, projections, rate = self.parts(epoch), torch.empty(0), 0.0
        for number in range(self._steps, steps):
            rate = self._set_learning_rate(epoch * steps + number)
            loss, projections = self.step([next(parts) for _ in range(self.options.backward_passes_per_step)])
            self._recent.append(loss)
            self._steps = number + 1
            commits = self.world.recovers and self._steps % self.options.commit_every == 0 and self._steps < steps
            if commits or number % _STEPS_BETWEEN_CHECKS == 0 or self._steps == steps:
                self._take_losses(epoch)
            if commits:
                average_statistics(self.world, self.network)
                self.world.commit(self)
            progress.advance(images, f"loss {self._loss_sum / max(1, self._steps - len(self._recent)):.3f}")
        average_statistics(self.world, self.network)
        if odd := odd_weights(self.world, self.network):
            raise self._diverged(f"in epoch {epoch + 1}, {odd}")
        due = (epoch + 1) % self.options.probe_every == 0 or epoch + 1 == self.options.epochs
        probed = probe(self.network.backbone) if probe and due and self.world.is_leader else {}
        record = EpochRecord(
            epoch=epoch + 1,
            loss=self._loss_sum / steps,
            learning_rate=rate,
            spread=float(spread(projections.float())),
            probe=exchange(self.world, probed)[0],
        )
        progress.finish(", ".join(f"{name} {value:.3g}" for name, value in record.metrics().items()))
        return record

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch, which depend on seed and epoch alone."""
        generator = epoch_generator(self.options.seed, epoch)
        height, width = self.images.size
        frames = self.frames
        deal = frames.batches if frames else shuffled_batches
        for positions in deal(self.positions, self.batch_size, generator):
            count = len(positions)
            drawn = [view.draw(count, height, width, generator) for view in self.views]
            orders = self.orders(count, generator)
            if frames and frames.pairs:
                positions = np.concatenate([positions, frames.partners(positions, generator)])
            yield Batch(count=count, positions=positions, drawn=drawn, orders=orders)

    def parts(self, epoch: int) -> Iterator[Part]:
        """This process's part of each batch that is left of an epoch, fetched ahead."""
        left = islice(self.batches(epoch), self._steps * self.options.backward_passes_per_step, None)
        placed = ((batch, self.places(batch)) for batch in left)
        wanted = (((batch, places), batch.positions[places.numpy()]) for batch, places in placed)
        for (batch, places), pixels in fetch_ahead(self.images, wanted, self.device):
            yield Part(batch=batch, places=places, pixels=pixels)

    def step(self, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
        """Train on this process's part of one batch, or of several whose gradients are added up.

        Returns:
            This process's share of the loss, whose mean over all processes is the loss, and the projections of all.
        """
        self.optimiser.zero_grad()
        total, found = torch.zeros((), device=self.device), []
        for part in parts:
            loss, projections = self.compare(part)
            loss = loss / len(parts)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            found.append(projections)
        self.world.step(self.optimiser, self.scaler)
        projections = torch.cat(found)
        self.network.after_step(projections)
        return total, projections

    def _set_learning_rate(self, step: int) -> float:
        options, epochs = self.options, self.options.epochs
        warmup = min(options.warmup_epochs, epochs / 2)
        factor = cosine_with_warmup(step, epochs * self.steps_per_epoch, round(warmup * self.steps_per_epoch))
        times = self.world.planned * options.backward_passes_per_step
        rate = factor * scaled_learning_rate(options.learning_rate, times, options.learning_rate_scaling)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _take_losses(self, epoch: int) -> None:
        """Add the losses since the last time up; all processes see those of all, and end together on a bad one."""
        losses = losses_of_all(self.world, self._recent)
        if bad := first_bad(losses):
            step, rank = bad
            where = f" on rank {rank}" if self.world.planned > 1 else ""
            number = self._steps - len(self._recent) + step + 1
            raise self._diverged(f"the loss became {losses[rank, step]:g}{where} in epoch {epoch + 1}, step {number}")
        self._loss_sum += float(losses.mean(dim=0).sum())
        self._recent.clear()

    def _diverged(self, what: str) -> SparsightError:
        options = self.options
        return SparsightError(
            f"Pre-training diverged: {what} (learning_rate {options.learning_rate}, warmup_epochs "
            f"{options.warmup_epochs}, precision {str(self.precision).removeprefix('torch.')}).",
            hint=f"Lower learning_rate, for instance to {options.learning_rate / 3:.2g}, or take precision float32.",
        )


def _check(options: PretrainingOptions, images: int, processes: int) -> None:
    for name in ("epochs", "batch_size", "probe_every", "backward_passes_per_step", "commit_every"):
        if getattr(options, name) < 1:
            raise SparsightError(f"{name} is {getattr(options, name)}; expected 1 or more.")
    for name, choices in (("learning_rate_scaling", Scaling), ("gradient_compression", Compression)):
        if getattr(options, name) not in get_args(choices):
            raise SparsightError(f"{name} is {getattr(options, name)!r}; expected {', '.join(get_args(choices))}.")
    step = options.batch_size * processes * options.backward_passes_per_step
    if images < step:
        shares = f" x {processes} processes" * (processes > 1)
        shares += f" x {options.backward_passes_per_step} passes" * (options.backward_passes_per_step > 1)
        batch = f"one batch of {options.batch_size}{shares}"
        raise SparsightError(
            f"There are {images} images to train on, fewer than {batch}.", hint="Lower batch_size, or give more images."
        )
