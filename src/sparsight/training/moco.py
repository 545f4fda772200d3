"""Pre-training with MoCo v2 over packed images: the loop, its checkpoint, and what it tells of itself."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import SGD

from sparsight.data.augment import Augmentation, Drawn
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.moco import Direction, MoCo, spread
from sparsight.models.precision import mixed
from sparsight.progress import Progress
from sparsight.training.checkpoints import load_checkpoint, save_checkpoint
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
from sparsight.training.loop import epoch_generator, fetch_ahead, shuffled_batches
from sparsight.training.schedules import cosine_with_warmup

CHECKPOINT = "checkpoint.pt"
_STEPS_BETWEEN_CHECKS = 20


@dataclass(frozen=True, kw_only=True)
class PretrainingOptions:
    """How MoCo is trained: SGD with a cosine schedule after a warm-up."""

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


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """A batch of N images that all processes share, and what is drawn for it, the same in all of them.

    Attributes:
        positions: int64, N.
        first: what makes the one view of each.
        second: what makes the other.
        orders: the order in which keys are projected, for each direction.
    """

    positions: NDArray[np.int64]
    first: Drawn
    second: Drawn
    orders: list[Tensor]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The part of a batch that a process works on: the pixels of some places, uint8 n x H x W x 3."""

    batch: _Batch
    places: Tensor
    pixels: Tensor

    def at(self, places: Tensor) -> Tensor:
        """The pixels of some of these places."""
        return self.pixels[torch.searchsorted(self.places, places).to(self.pixels.device)]


class MoCoTrainer:
    """Trains a MoCo network, epoch by epoch, and can be taken up again after any of them.

    All randomness of an epoch comes from a generator made of seed and epoch. With the weights, the queue, the
    momentum encoder and the optimiser's state in the checkpoint, training goes on after an interruption as if there
    had been none: on a CPU with as many threads, and on one kind of GPU, to the same bits.

    Several processes deal every batch out among themselves. The order of images, and the views of each, are those that
    one process would make of a batch as large; only batch norm sees the images of one process at a time.

    Args:
        network: what to train; it is moved to the device.
        images: packed images.
        positions: of the images to train on.
        augmentation: makes one view.
        options: of the training.
        device: where to.
        precision: of matrix products.
        world: the processes that train it.

    Raises:
        SparsightError: fewer images than a batch, or a batch larger than the queue.
    """

    def __init__(
        self,
        network: MoCo,
        images: PackedImages,
        positions: NDArray[np.int64],
        augmentation: Augmentation,
        options: PretrainingOptions,
        *,
        device: torch.device,
        precision: torch.dtype,
        world: Processes | None = None,
    ) -> None:
        self.world = world or OneProcess()
        _check(options, network, len(positions), self.world.planned)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.images, self.positions, self.augmentation = images, positions, augmentation
        self.options, self.device, self.precision = options, device, precision
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = SGD(
            learned, options.learning_rate, options.sgd_momentum, weight_decay=options.weight_decay, fused=True
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

    @property
    def batch_size(self) -> int:
        """Images of all processes in one pass."""
        return self.options.batch_size * self.world.planned

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps in an epoch."""
        return len(self.positions) // (self.batch_size * self.options.backward_passes_per_step)

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
            probe: looks at the query backbone now and then, in the leader, and gives numbers by name.
            begin: is called in the leader before anything else, and names its run; `self.run_id` tells it to all.
            finish: is called in the leader after the last epoch, while the others wait.

        Raises:
            SparsightError: training diverged, or the checkpoint is damaged.
        """

        def prepare() -> None:
            run_id = begin()
            self.restore(folder / CHECKPOINT)
            self.run_id = run_id
            for record in self.history:
                report(record)

        def train() -> None:
            while len(self.history) < self.options.epochs:
                record = self._epoch(len(self.history), probe)
                self.history.append(record)
                self._steps, self._loss_sum = 0, 0.0
                if self.world.is_leader:
                    self.save(folder / CHECKPOINT)
                    report(record)
                self.world.commit(self)
            if self.world.is_leader:
                finish()

        self.world.run(self, train, prepare=prepare)

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

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(path, self.snapshot())

    def restore(self, path: Path) -> None:
        """Go back to where a checkpoint was written; does nothing where there is none."""
        content = load_checkpoint(path, self.device)
        if content is None:
            return
        try:
            self.load(content)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise SparsightError(
                f"{path} belongs to another network or version.", hint="Remove it and start again."
            ) from error
        print(f"Going on after epoch {len(self.history)} of {self.options.epochs}.", flush=True)

    def remove_checkpoint(self, folder: Path) -> None:
        """Clear away what only an unfinished training needs."""
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def _epoch(self, epoch: int, probe: Probe | None) -> EpochRecord:
        """Train from where the epoch stands up to its end."""
        if self._steps:
            print(f"Going on in epoch {epoch + 1} after step {self._steps}.", flush=True)
        self.network.train()
        title, steps, passes = f"epoch {epoch + 1}/{self.options.epochs}", self.steps_per_epoch, self._passes
        images = self.batch_size * passes
        progress = Progress(title, steps * images, "images", done=self._steps * images, every=10.0)
        parts, keys, rate = self.parts(epoch), torch.empty(0), 0.0
        for number in range(self._steps, steps):
            rate = self._set_learning_rate(epoch * steps + number)
            loss, keys = self.step([next(parts) for _ in range(passes)])
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
            spread=float(spread(keys.float())),
            probe=exchange(self.world, probed)[0],
        )
        progress.finish(", ".join(f"{name} {value:.3g}" for name, value in record.metrics().items()))
        return record

    @property
    def _passes(self) -> int:
        return self.options.backward_passes_per_step

    def batches(self, epoch: int) -> Iterator[_Batch]:
        """All batches of an epoch, which depend on seed and epoch alone."""
        generator = epoch_generator(self.options.seed, epoch)
        height, width = self.images.size
        directions = 2 if self.network.options.symmetric else 1
        for positions in shuffled_batches(self.positions, self.batch_size, generator):
            count = len(positions)
            first = self.augmentation.draw(count, height, width, generator)
            second = self.augmentation.draw(count, height, width, generator)
            orders = [self.network.order(count, generator) for _ in range(directions)]
            yield _Batch(positions=positions, first=first, second=second, orders=orders)

    def parts(self, epoch: int) -> Iterator[_Part]:
        """This process's part of each batch that is left of an epoch, fetched ahead."""
        left = islice(self.batches(epoch), self._steps * self._passes, None)
        wanted = (((batch, places), batch.positions[places.numpy()]) for batch, places in map(self._with_places, left))
        for (batch, places), pixels in fetch_ahead(self.images, wanted, self.device):
            yield _Part(batch=batch, places=places, pixels=pixels)

    def _with_places(self, batch: _Batch) -> tuple[_Batch, Tensor]:
        """Find the places of a batch whose pixels this process needs: of its own queries, and of its share of keys."""
        mine = part_of(self.world, len(batch.positions))
        own = torch.arange(mine.start, mine.stop)
        return batch, torch.unique(torch.cat([own, *(order[mine] for order in batch.orders)]))

    def step(self, parts: Sequence[_Part]) -> tuple[Tensor, Tensor]:
        """Train on this process's part of one batch, or of several whose gradients are added up.

        Returns:
            This process's share of the loss, whose mean over all processes is the loss, and the keys of all.
        """
        self.optimiser.zero_grad()
        total, found = torch.zeros((), device=self.device), []
        for part in parts:
            directions = self._directions(part)
            share = len(directions[0].queries) * self.world.size / len(part.batch.positions)
            groups = self.network.options.batch_norm_groups
            groups = max(1, round(len(directions[0].queries) / self.options.batch_size * groups))
            with mixed(self.device, self.precision):
                loss, keys = self.model(*directions, world=self.world, groups=groups)
            loss = loss * (share / len(parts))
            self.scaler.scale(loss).backward()
            total += loss.detach()
            found.append(keys)
        self.world.step(self.optimiser, self.scaler)
        keys = torch.cat(found)
        self.network.after_step(keys)
        return total, keys

    def _directions(self, part: _Part) -> list[Direction]:
        """Make the views that this process needs: queries of its own places, keys of those that the order gives it."""
        batch = part.batch
        mine = part_of(self.world, len(batch.positions))
        own = torch.arange(mine.start, mine.stop)
        orders = [order[mine] for order in batch.orders]
        first = self._views(part, batch.first, [own, *orders[1:]])
        second = self._views(part, batch.second, [orders[0], *([own] if orders[1:] else [])])
        pairs = [(first[0], second[0], batch.orders[0])]
        pairs += [(second[1], first[1], order) for order in batch.orders[1:]]
        return [
            Direction(queries=queries, keys=keys, order=order.to(self.device), start=mine.start)
            for queries, keys, order in pairs
        ]

    def _views(self, part: _Part, drawn: Drawn, wanted: list[Tensor]) -> list[Tensor]:
        """Make one view of some places of a batch, each once, and deal them out in the orders wanted."""
        if len(wanted) == 1:
            return [self.augmentation.apply(part.at(wanted[0]), drawn.at(wanted[0]))]
        places = torch.unique(torch.cat(wanted))
        views = self.augmentation.apply(part.at(places), drawn.at(places))
        chosen = [torch.searchsorted(places, each).to(self.device) for each in wanted]
        return [views[each].contiguous(memory_format=torch.channels_last) for each in chosen]

    def _set_learning_rate(self, step: int) -> float:
        options, epochs = self.options, self.options.epochs
        warmup = min(options.warmup_epochs, epochs / 2)
        factor = cosine_with_warmup(step, epochs * self.steps_per_epoch, round(warmup * self.steps_per_epoch))
        times = self.world.planned * self._passes
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


def _check(options: PretrainingOptions, network: MoCo, images: int, processes: int) -> None:
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
    keys = step * (2 if network.options.symmetric else 1)
    if keys > network.options.queue_size:
        raise SparsightError(
            f"A step makes {keys} keys; the queue of {network.options.queue_size} can't hold them.",
            hint="Raise queue_size, or lower batch_size.",
        )
    groups = 1 if network.options.batch_norm == "plain" else network.options.batch_norm_groups
    if options.batch_size < 2 * groups:
        raise SparsightError(
            f"batch_size {options.batch_size} leaves less than 2 images for each of {groups} batch-norm groups.",
            hint="Raise batch_size, or lower batch_norm_groups.",
        )
