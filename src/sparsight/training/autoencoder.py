"""Trains an autoencoder on packed images: the loop, early stopping, and its checkpoint."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sparsight.data.corruption import Corruption, random_crops, resize_by_area
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.autoencoder import Autoencoder
from sparsight.models.barlow import barlow_loss
from sparsight.models.binary import Rounding, correlation, imbalance
from sparsight.models.precision import mixed
from sparsight.models.ssim import WINDOW, psnr, ssim
from sparsight.progress import Progress
from sparsight.training.checkpoints import CHECKPOINT, Resumable
from sparsight.training.distributed import (
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
from sparsight.training.labelled import distinct
from sparsight.training.loop import epoch_generator, fetch_batches, shuffled_batches
from sparsight.training.schedules import cosine_with_warmup

Schedule = Literal["plateau", "cosine"]
VALIDATED = 256
"""Images that an epoch is judged on, at most."""
_HELD_OUT = 0.1
_BEGINNING = 256
"""Images that first weights are set by."""
_ALL_STAGES = 0.25
"""Part of the images that are decoded from all stages while training."""
_PLATEAU = 4
"""Epochs without improvement after which the learning rate falls."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderOptions:
    """How an autoencoder is trained: Adam, a learning rate that falls on plateaus, early stopping."""

    epochs: int = 100
    batch_size: int = 32
    """Images in each process."""
    learning_rate: float = 1e-3
    """Its beginning, for one process."""
    learning_rate_scaling: Scaling = "sqrt"
    schedule: Schedule = "plateau"
    """Whether the learning rate falls where the validation loss doesn't, or along half a cosine over all epochs."""
    plateau_factor: float = 0.5
    """What the learning rate is multiplied by on a plateau."""
    patience: int = 10
    """Epochs without improvement after which training ends."""
    min_delta: float = 1e-4
    """What counts as an improvement of the validation loss."""
    image_size: int = 0
    """Edge to which images are resized by area; 0 takes them as they are."""
    crop_size: int = 0
    """Edge of the random crops that are trained on; 0 takes whole images."""
    ssim_weight: float = 0.8
    """Part of 1 - SSIM in the loss; the rest is the mean absolute error."""
    balance_weight: float = 0.02
    decorrelation_weight: float = 0.02
    rounding: Rounding = "deterministic"
    """How bits are made of numbers while training."""
    corruption: Corruption = field(default_factory=Corruption)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What is known after an epoch; `valid` is measured on images that weren't trained on."""

    epoch: int
    loss: float
    learning_rate: float
    valid_loss: float
    valid_ssim: float
    valid_psnr: float

    def metrics(self) -> dict[str, float]:
        """The numbers by name, as they are tracked."""
        return {name: value for name, value in vars(self).items() if name != "epoch"}


class AutoencoderTrainer(Resumable[EpochRecord]):
    """Trains an autoencoder, epoch by epoch, and can be taken up again after any of them.

    All randomness of an epoch comes from a generator made of seed and epoch. What goes on from one to the next is in
    the checkpoint, so that a training that was interrupted ends with the same bits as one that wasn't, on a CPU with as
    many threads.

    Of a design whose code can be cut, each image of a batch is decoded from as many stages as chance tells: that makes
    every rate a good one.

    Args:
        network: what to train; it is moved to the device.
        images: packed images.
        options: of the training.
        device: where to.
        precision: of matrix products.
        world: the processes that train it.

    Raises:
        SparsightError: too few images, or sizes that don't fit.
    """

    options: AutoencoderOptions

    def __init__(
        self,
        network: Autoencoder,
        images: PackedImages,
        options: AutoencoderOptions,
        *,
        device: torch.device,
        precision: torch.dtype,
        world: Processes | None = None,
    ) -> None:
        self.world = world or OneProcess()
        self.images, self.options, self.device, self.precision = images, options, device, precision
        self.train, self.valid = divide(images, options.seed)
        _check(options, images, network.description.cell, len(self.train), self.world.planned)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        network.begin_with(self.whole(self.train[:_BEGINNING]).cpu())
        self.rate = scaled_learning_rate(options.learning_rate, self.world.planned, options.learning_rate_scaling)
        self.model, self.optimiser = self.world.distribute(network, torch.optim.Adam(network.parameters(), self.rate))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.plateau = ReduceLROnPlateau(
            self.optimiser,
            factor=options.plateau_factor,
            patience=_PLATEAU,
            threshold=options.min_delta,
            threshold_mode="abs",
        )
        self.history: list[EpochRecord] = []
        self.best = self._weights()
        self.run_id = ""
        torch.backends.cudnn.deterministic = True

    @property
    def best_epoch(self) -> EpochRecord:
        """The epoch whose weights are kept: the first that none after it beats by `min_delta`."""
        best = self.history[0]
        for record in self.history[1:]:
            if record.valid_loss < best.valid_loss - self.options.min_delta:
                best = record
        return best

    @property
    def kept_epoch(self) -> int:
        """The number of the best epoch."""
        return self.best_epoch.epoch

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or so many without improvement that it ends early."""
        if not self.history:
            return False
        waited = self.history[-1].epoch - self.best_epoch.epoch
        return len(self.history) >= self.options.epochs or waited >= self.options.patience

    def fit(
        self,
        folder: Path,
        *,
        report: Callable[[EpochRecord], None],
        begin: Callable[[], str] = lambda: "",
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the end, from the folder's checkpoint where it has one; then the network has the best weights.

        Args:
            folder: where the leader keeps the checkpoint.
            report: is called in the leader after each epoch, first for those of the checkpoint.
            begin: is called in the leader before anything else, and names its run; `self.run_id` tells it to all.
            finish: is called in the leader after the last epoch, while the others wait.

        Raises:
            SparsightError: training diverged, or the checkpoint is damaged.
        """

        def train() -> None:
            while not self.finished:
                record = self._epoch(len(self.history))
                self.history.append(record)
                if self.best_epoch is record:
                    self.best = self._weights()
                if self.world.is_leader:
                    self.save(folder / CHECKPOINT)
                    report(record)
                self.world.commit(self)
            self.network.load_state_dict(self.best)
            if self.world.is_leader:
                finish()

        self.world.run(self, train, prepare=lambda: self.take_up(folder, begin, report))

    def snapshot(self) -> dict[str, Any]:
        """All that training needs to go on."""
        return {
            "network": self.network.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "plateau": self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [vars(record) for record in self.history],
            "run_id": self.run_id,
        }

    def load(self, snapshot: dict[str, Any]) -> None:
        """Take over where a snapshot was made."""
        self.network.load_state_dict(snapshot["network"])
        self.best = copy.deepcopy(snapshot["best"])
        self.optimiser.load_state_dict(copy.deepcopy(snapshot["optimiser"]))
        self.plateau.load_state_dict(snapshot["plateau"])
        self.scaler.load_state_dict(snapshot["scaler"])
        self.history = [EpochRecord(**record) for record in snapshot["history"]]
        self.run_id = snapshot["run_id"]

    def whole(self, positions: NDArray[np.int64]) -> Tensor:
        """Whole images as they are encoded: float, N x 3 x H x W of 0 to 1, on the device."""
        return self._prepared(torch.from_numpy(self.images.gather(positions)).to(self.device))

    def _prepared(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).float() / 255
        return resize_by_area(images, self.options.image_size) if self.options.image_size else images

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def _epoch(self, epoch: int) -> EpochRecord:
        generator = epoch_generator(self.options.seed, epoch)
        batches = shuffled_batches(self.train, self.options.batch_size * self.world.planned, generator)
        parts = [batch[part_of(self.world, len(batch))] for batch in batches]
        progress = Progress(f"epoch {epoch + 1}/{self.options.epochs}", len(parts), "steps", every=10.0)
        self.network.train()
        torch.manual_seed(generator.initial_seed())  # of stochastic rounding
        losses = []
        for number, pixels in enumerate(fetch_batches(self.images, parts, self.device)):
            self._follow_cosine(epoch * len(parts) + number, self.options.epochs * len(parts))
            losses.append(self._step(pixels, generator))
            progress.advance()
        found = losses_of_all(self.world, losses)
        if bad := first_bad(found):
            raise self._diverged(f"the loss became {found[bad[1], bad[0]]:g} in epoch {epoch + 1}, step {bad[0] + 1}")
        if odd := odd_weights(self.world, self.network):
            raise self._diverged(f"in epoch {epoch + 1}, {odd}")
        rate = float(self.optimiser.param_groups[0]["lr"])
        average_statistics(self.world, self.network)
        valid = exchange(self.world, self._validate() if self.world.is_leader else {})[0]
        if self.options.schedule == "plateau":
            self.plateau.step(valid["valid_loss"])
        record = EpochRecord(epoch=epoch + 1, loss=float(found.mean()), learning_rate=rate, **valid)
        progress.finish(", ".join(f"{name} {value:.4g}" for name, value in record.metrics().items()))
        return record

    def _follow_cosine(self, step: int, steps: int) -> None:
        if self.options.schedule == "cosine":
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * cosine_with_warmup(step, steps, 0)

    def _step(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Train on this process's part of a batch, and return its loss."""
        options = self.options
        clean = self._prepared(pixels)
        clean = random_crops(clean, options.crop_size, generator) if options.crop_size else clean
        kept = self._draw_kept(len(clean), generator)
        with mixed(self.device, self.precision):
            made, code, features = self.model(options.corruption(clean, generator), kept, options.rounding)
            left, right = (self.network.whole_code(half) for half in features.chunk(2, dim=3))
        loss = self._distance(made.float(), clean) + barlow_loss(left, right)
        if self.network.description.binary:
            bits = code.float().permute(0, 2, 3, 1).flatten(0, 2)
            loss = loss + options.balance_weight * imbalance(bits) + options.decorrelation_weight * correlation(bits)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.world.step(self.optimiser, self.scaler)
        return loss.detach()

    def _distance(self, made: Tensor, clean: Tensor) -> Tensor:
        weight = self.options.ssim_weight
        distance = (1 - weight) * (made - clean).abs().mean()
        return distance + weight * (1 - ssim(made, clean)).mean() if weight else distance

    def _draw_kept(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw how many channels of each image are kept: a quarter of the time all, else any order of magnitude."""
        step, channels = self.network.description.step, self.network.description.channels
        stages = channels // step
        drawn = (torch.rand(count, generator=generator) * math.log(stages + 1)).exp().long().clamp(1, stages)
        drawn[torch.rand(count, generator=generator) < _ALL_STAGES] = stages
        return (drawn * step).to(self.device)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss over several rates, SSIM and PSNR at the full one, on clean whole images."""
        self.network.eval()
        sums: dict[str, list[Tensor]] = {"valid_loss": [], "valid_ssim": [], "valid_psnr": []}
        for clean in self._validation_batches():
            code, _ = self.network.encode(clean)
            for kept in rates(self.network):
                made = self.network.decode(code, torch.full((len(clean),), kept, device=self.device))
                sums["valid_loss"].append(self._distance(made, clean).expand(len(clean)))
            made = made.clamp(0, 1)
            sums["valid_ssim"].append(ssim(made, clean))
            sums["valid_psnr"].append(psnr(made, clean))
        return {name: float(torch.cat(values).mean()) for name, values in sums.items()}

    def _validation_batches(self) -> Iterator[Tensor]:
        chosen = self.valid[:VALIDATED]
        for start in range(0, len(chosen), self.options.batch_size):
            yield self.whole(chosen[start : start + self.options.batch_size])

    def _diverged(self, what: str) -> SparsightError:
        return SparsightError(
            f"Training diverged: {what} (learning_rate {self.options.learning_rate}).",
            hint=f"Lower learning_rate, for instance to {self.options.learning_rate / 3:.2g}.",
        )


def rates(network: Autoencoder) -> list[int]:
    """Numbers of channels to look at a network with: all of them last, before that a half, a quarter and an eighth."""
    step, channels = network.description.step, network.description.channels
    return sorted({max(step, channels // part // step * step) for part in (1, 2, 4, 8)})


def divide(images: PackedImages, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions to train on and to validate with, each picture once; where no split is `valid`, a tenth is held out."""
    train, valid = (distinct(images, images.positions(split))[0] for split in ("train", "valid"))
    if not len(valid):
        order = np.random.default_rng(seed).permutation(len(train))
        held = max(1, round(_HELD_OUT * len(train)))
        train, valid = np.sort(train[order[held:]]), np.sort(train[order[:held]])
    return train, valid


def _check(options: AutoencoderOptions, images: PackedImages, cell: int, train: int, processes: int) -> None:
    for name in ("epochs", "batch_size", "patience"):
        if getattr(options, name) < 1:
            raise SparsightError(f"{name} is {getattr(options, name)}; expected 1 or more.")
    edge = options.image_size or min(images.size)
    for name, size in (("image_size", edge), ("crop_size", options.crop_size or edge)):
        if size % cell or size < 2 * WINDOW - 6:
            raise SparsightError(f"{name} is {size}; expected a multiple of {cell}, the cell, of at least 16.")
    if options.crop_size > edge:
        raise SparsightError(f"crop_size is {options.crop_size}, larger than images of {edge} pixels.")
    if train < options.batch_size * processes or train < 2:
        raise SparsightError(
            f"There are {train} images to train on, fewer than one batch of {options.batch_size * processes}.",
            hint="Lower batch_size, or give more images.",
        )
