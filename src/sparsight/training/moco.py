"""Pre-training with MoCo v2 over packed images: the loop, its checkpoint, and what it tells of itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import SGD

from sparsight.data.augment import Augmentation
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.moco import MoCo, spread
from sparsight.models.precision import mixed
from sparsight.progress import Progress
from sparsight.training.checkpoints import load_checkpoint, save_checkpoint
from sparsight.training.loop import epoch_generator, fetch_batches, shuffled_batches
from sparsight.training.schedules import cosine_with_warmup

CHECKPOINT = "checkpoint.pt"
_STEPS_BETWEEN_CHECKS = 20


@dataclass(frozen=True, kw_only=True)
class PretrainingOptions:
    """How MoCo is trained: SGD with a cosine schedule after a warm-up."""

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 6e-2
    """Its peak."""
    sgd_momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 5
    """Epochs of a rising learning rate; at most half of all epochs are spent so."""
    probe_every: int = 5
    """Epochs from one probe to the next; the last epoch is always probed."""
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


class MoCoTrainer:
    """Trains a MoCo network, epoch by epoch, and can be taken up again after any of them.

    All randomness of an epoch comes from a generator made of seed and epoch. With the weights, the queue, the
    momentum encoder and the optimiser's state in the checkpoint, training goes on after an interruption as if there
    had been none: on a CPU with as many threads, and on one kind of GPU, to the same bits.

    Args:
        network: what to train; it is moved to the device.
        images: packed images.
        positions: of the images to train on.
        augmentation: makes one view.
        options: of the training.
        device: where to.
        precision: of matrix products.

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
    ) -> None:
        _check(options, network, len(positions))
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.images, self.positions, self.augmentation = images, positions, augmentation
        self.options, self.device, self.precision = options, device, precision
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimiser = SGD(
            learned, options.learning_rate, options.sgd_momentum, weight_decay=options.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.history: list[EpochRecord] = []
        torch.backends.cudnn.deterministic = True

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.positions) // self.options.batch_size

    def fit(self, folder: Path, *, probe: Probe | None = None, report: Callable[[EpochRecord], None]) -> None:
        """Train up to the last epoch, from the folder's checkpoint where it has one.

        Args:
            folder: where the checkpoint is kept.
            probe: looks at the query backbone now and then, and gives numbers by name.
            report: is called after each epoch, first for those of the checkpoint.

        Raises:
            SparsightError: training diverged, or the checkpoint is damaged.
        """
        self.restore(folder / CHECKPOINT)
        for record in self.history:
            report(record)
        while len(self.history) < self.options.epochs:
            record = self._epoch(len(self.history), probe)
            self.history.append(record)
            self.save(folder / CHECKPOINT)
            report(record)

    def save(self, path: Path) -> None:
        """Write all that training needs to go on."""
        content = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [vars(record) for record in self.history],
        }
        save_checkpoint(path, content)

    def restore(self, path: Path) -> None:
        """Go back to where a checkpoint was written; does nothing where there is none."""
        content = load_checkpoint(path, self.device)
        if content is None:
            return
        try:
            self.network.load_state_dict(content["network"])
            self.optimiser.load_state_dict(content["optimiser"])
            self.scaler.load_state_dict(content["scaler"])
            self.history = [EpochRecord(**record) for record in content["history"]]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise SparsightError(
                f"{path} belongs to another network or version.", hint="Remove it and start again."
            ) from error
        print(f"Going on after epoch {len(self.history)} of {self.options.epochs}.", flush=True)

    def remove_checkpoint(self, folder: Path) -> None:
        """Clear away what only an unfinished training needs."""
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def _epoch(self, epoch: int, probe: Probe | None) -> EpochRecord:
        self.network.train()
        generator = epoch_generator(self.options.seed, epoch)
        batches = shuffled_batches(self.positions, self.options.batch_size, generator)
        title = f"epoch {epoch + 1}/{self.options.epochs}"
        progress = Progress(title, len(batches) * self.options.batch_size, "images", every=10.0)
        total, keys, rate, mean = torch.zeros((), device=self.device), torch.empty(0), 0.0, math.nan
        for number, pixels in enumerate(fetch_batches(self.images, batches, self.device)):
            rate = self._set_learning_rate(epoch * len(batches) + number)
            loss, keys = self.step(pixels, generator)
            total += loss
            if number % _STEPS_BETWEEN_CHECKS == 0 or number + 1 == len(batches):
                mean = self._mean_loss(total, number + 1, epoch)
            progress.advance(len(pixels), f"loss {mean:.3f}")
        self._check_weights(epoch)
        due = (epoch + 1) % self.options.probe_every == 0 or epoch + 1 == self.options.epochs
        found = probe(self.network.backbone) if probe and due else {}
        record = EpochRecord(
            epoch=epoch + 1, loss=mean, learning_rate=rate, spread=float(spread(keys.float())), probe=found
        )
        progress.finish(", ".join(f"{name} {value:.3g}" for name, value in record.metrics().items()))
        return record

    def step(self, pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Train on one batch, uint8 N x H x W x 3 on the device; gives the loss and the keys."""
        first, second = self.augmentation(pixels, generator), self.augmentation(pixels, generator)
        with mixed(self.device, self.precision):
            loss, keys = self.network(first, second, generator)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.network.after_step(keys)
        return loss.detach(), keys

    def _set_learning_rate(self, step: int) -> float:
        epochs = self.options.epochs
        warmup = min(self.options.warmup_epochs, epochs / 2)
        factor = cosine_with_warmup(step, epochs * self.steps_per_epoch, round(warmup * self.steps_per_epoch))
        rate = self.options.learning_rate * factor
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _mean_loss(self, total: Tensor, steps: int, epoch: int) -> float:
        mean = float(total) / steps
        if not math.isfinite(mean):
            raise self._diverged(f"the loss became {mean} in epoch {epoch + 1}, step {steps} or shortly before")
        return mean

    def _check_weights(self, epoch: int) -> None:
        if not math.isfinite(float(torch.nn.utils.get_total_norm(self.network.parameters()))):
            raise self._diverged(f"weights aren't finite after epoch {epoch + 1}")

    def _diverged(self, what: str) -> SparsightError:
        options = self.options
        return SparsightError(
            f"Pre-training diverged: {what} (learning_rate {options.learning_rate}, warmup_epochs "
            f"{options.warmup_epochs}, precision {str(self.precision).removeprefix('torch.')}).",
            hint=f"Lower learning_rate, for instance to {options.learning_rate / 3:.2g}, or take precision float32.",
        )


def _check(options: PretrainingOptions, network: MoCo, images: int) -> None:
    for name in ("epochs", "batch_size", "probe_every"):
        if getattr(options, name) < 1:
            raise SparsightError(f"{name} is {getattr(options, name)}; expected 1 or more.")
    if images < options.batch_size:
        raise SparsightError(
            f"There are {images} images to train on, fewer than one batch of {options.batch_size}.",
            hint="Lower batch_size, or give more images.",
        )
    keys = options.batch_size * (2 if network.options.symmetric else 1)
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
