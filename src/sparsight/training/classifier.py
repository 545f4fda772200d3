"""Trains a classifier on few labels: a head on frozen embeddings, head and backbone together, or first one alone."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from sparsight.data.augment import Augmentation, AugmentationOptions, Drawn, normalise
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.classifier import Classifier, Head
from sparsight.models.folder import HeadDescription
from sparsight.progress import Progress
from sparsight.training.distributed import (
    OneProcess,
    Processes,
    average_statistics,
    first_bad,
    losses_of_all,
    part_of,
)
from sparsight.training.fitting import Course, Epoch, Steps, macro_f1, make_optimizer, one_thread
from sparsight.training.inference import EMBEDDING_BATCH, apply, measured_batch_norm
from sparsight.training.labelled import UNKNOWN, Balance, LabelledSplits, class_weights, distinct, epoch_order
from sparsight.training.loop import epoch_generator, fetch_batches
from sparsight.training.targets import Hierarchy, make_targets


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """How to train. The component's contract says what each is for."""

    freeze_backbone: bool = True
    head_epochs: int = 0
    backbone_learning_rate_ratio: float = 0.1
    hidden: int = 256
    dropout: float = 0.5
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    epochs: int = 200
    batch_size: int = 32
    balance: Balance = "none"
    patience: int = 40
    augmentation_passes: int = 8
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    hierarchy: Hierarchy = "none"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier with the weights of its best epoch, in evaluation mode, and all epochs in order."""

    classifier: Classifier
    epochs: tuple[Epoch, ...]
    best: Epoch


class ClassifierTrainer:
    """Trains a head, and unless it is frozen the backbone under it, and keeps the best epoch by validation macro F1.

    A frozen backbone sees each training image once as it is and `augmentation_passes` times augmented; every epoch
    then draws one of these embeddings for each image, so that an epoch costs the head alone. The head is trained on
    standardised embeddings and takes the standardisation into its first layer at the end. A frozen backbone with random
    weights first gets its batch norm's statistics from the training images: without, random features are worse than
    they need to be, and a gain over them would flatter.

    Where the backbone is trained too, the head may learn alone for `head_epochs` first, just as on a frozen backbone:
    so gradients of a random head don't spoil what the backbone knows (Kumar et al. 2022, arXiv 2202.10054).

    Several processes deal the images to embed out among themselves, and with a backbone that is trained too the images
    of every batch; a head alone costs so little that each trains it, all alike. Whatever their number, batches are as
    large, and the order of images and their views the same. Where a process is lost training begins anew.

    Args:
        backbone: with `num_features`; it is moved to the device and, unless frozen, changed.
        splits: the labelled images.
        options: of the training.
        device: where to.
        precision: of matrix products.
        world: the processes that train it.

    Raises:
        SparsightError: too few images for so many processes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        splits: LabelledSplits,
        options: ClassifierOptions,
        *,
        device: torch.device,
        precision: torch.dtype,
        world: Processes | None = None,
    ) -> None:
        self.splits, self.options, self.device, self.precision = splits, options, device, precision
        self.world = world or OneProcess()
        self.augment = Augmentation(options.augmentation)
        self.backbone = backbone.to(device).to(memory_format=torch.channels_last)
        self.labels = make_targets(splits.classes, options.hierarchy).to(device)
        self.targets = splits.targets[splits.train]
        self.groups = splits.groups[self.targets]
        self.run_id = ""
        self._check()

    def train(
        self,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
        *,
        begin: Callable[[], str] = lambda: "",
        finish: Callable[[Trained], None] = lambda trained: None,
    ) -> Trained:
        """Run all epochs, or until `patience` of them brought nothing better.

        Args:
            on_epoch: hears of each epoch, in the leader; of one that is done again not again.
            begin: is called in the leader before anything else, and names its run; `self.run_id` tells it to all.
            finish: is called in the leader at the end, while the others wait.
        """
        heard = 0

        def tell(epoch: Epoch) -> None:
            nonlocal heard
            if self.world.is_leader and epoch.number > heard:
                heard = epoch.number
                on_epoch(epoch)

        def prepare() -> None:
            self.run_id = begin()

        def train() -> Trained:
            trained = self._train(tell)
            if self.world.is_leader:
                finish(trained)
            return trained

        return self.world.run(self, train, prepare=prepare)

    def snapshot(self) -> dict[str, Any]:
        """What training begins with."""
        return {"backbone": self.backbone.state_dict(), "run_id": self.run_id}

    def load(self, snapshot: dict[str, Any]) -> None:
        """Begin with what another process does."""
        self.backbone.load_state_dict(snapshot["backbone"])
        self.run_id = snapshot["run_id"]

    def _train(self, on_epoch: Callable[[Epoch], None]) -> Trained:
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.options.seed)
            # Of several processes one may be lost: the others begin anew with what they were given.
            backbone = copy.deepcopy(self.backbone) if self.world.planned > 1 else self.backbone
            num_features: int = backbone.num_features  # type: ignore[assignment]
            description = HeadDescription(hidden=self.options.hidden, dropout=self.options.dropout)
            head = Head(num_features, len(self.labels.outputs), description).to(self.device)
            classifier = Classifier(backbone, head)
            course = Course(on_epoch)
            if self.options.freeze_backbone:
                self._on_embeddings(classifier, course, self.options.epochs)
            else:
                if self.options.head_epochs:
                    self._on_embeddings(classifier, course, self.options.head_epochs)
                self._on_images(classifier, course)
        return Trained(classifier=classifier.eval(), epochs=tuple(course.epochs), best=course.best)

    def _on_embeddings(self, classifier: Classifier, course: Course, epochs: int) -> None:
        head, backbone = classifier.head, classifier.backbone.eval().requires_grad_(False)
        kept, place = distinct(self.splits.images, self.splits.train)
        if not measured_batch_norm(backbone):
            update_bn(self._batches_of(kept), backbone)
        views = self._views(backbone, kept)
        std, mean = torch.std_mean(views.flatten(0, 1), dim=0)
        std = std + 1e-3
        valid = (self._apply(backbone, self.splits.valid) - mean) / std
        views = (views - mean) / std

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor, float]]:
            generator = epoch_generator(self.options.seed, epoch)
            for batch in self._batches(generator):
                which = torch.randint(len(views), (len(batch),), generator=generator)
                yield views[which, torch.from_numpy(place[batch])], self._targets_of(batch), 1.0

        def validate() -> Tensor:
            outputs: Tensor = head(valid)
            return outputs

        with one_thread():
            self._fit(self._steps(head, OneProcess(), epochs), batches, validate, course, epochs)
        head.absorb_standardisation(mean, std)

    def _on_images(self, classifier: Classifier, course: Course) -> None:
        classifier.requires_grad_(True)
        if self.world.rank:  # dropout differs between the parts of a batch
            torch.manual_seed(self.options.seed + self.world.rank)
        height, width = self.splits.images.size
        steps = self._steps(classifier, self.world, self.options.epochs)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor, float]]:
            generator = epoch_generator(self.options.seed, epoch)
            whole = self._batches(generator)
            own = [part_of(self.world, len(batch)) for batch in whole]
            positions = [self.splits.train[batch[part]] for batch, part in zip(whole, own, strict=True)]
            fetched = fetch_batches(self.splits.images, positions, self.device)
            for batch, part, pixels in zip(whole, own, fetched, strict=True):
                drawn = self.augment.draw(len(batch), height, width, generator)
                share = self._weight(batch[part]) / self._weight(batch) * self.world.size
                yield self.augment.apply(pixels, drawn.at(part)), self._targets_of(batch[part]), share

        def validate() -> Tensor:
            average_statistics(self.world, classifier)
            return self._apply(classifier, self.splits.valid)

        self._fit(steps, batches, validate, course, self.options.epochs)

    def _check(self) -> None:
        if self.options.freeze_backbone and self.options.head_epochs:
            raise SparsightError(
                f"head_epochs is {self.options.head_epochs}, and the backbone is frozen: the head learns alone anyway.",
                hint="Set freeze_backbone to false to train all layers after the head, or head_epochs to 0.",
            )
        processes = self.world.planned
        if self.options.freeze_backbone or processes == 1:
            return
        smallest = min(len(batch) for batch in self._batches(torch.Generator()))
        if smallest < 4 * processes:
            raise SparsightError(
                f"{len(self.splits.train)} training images make batches of {smallest}, too few for {processes} "
                "processes; expected 4 images for each in every batch.",
                hint="Raise batch_size, or lower processes.",
            )

    def _batches(self, generator: torch.Generator) -> list[NDArray[np.int64]]:
        """Deal an epoch's images out into batches of nearly one size, none too small for batch norm."""
        order = epoch_order(self.groups, self.options.balance, generator)
        return np.array_split(order, -(-len(order) // self.options.batch_size))

    def _weight(self, part: NDArray[np.int64]) -> float:
        """What some images count for in a loss."""
        weights = self._class_weights()
        return float(len(part) if weights is None else weights[self.targets[part]].sum())

    def _class_weights(self) -> NDArray[np.float32] | None:
        if self.options.balance != "class_weights":
            return None
        groups = self.splits.groups
        return class_weights(self.groups, groups.max() + 1)[groups]

    def _targets_of(self, part: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.targets[part]).to(self.device)

    def _views(self, backbone: nn.Module, positions: NDArray[np.int64]) -> Tensor:
        """Embed images as they are and augmented: float32, 1 + passes x N x D."""
        generator = epoch_generator(self.options.seed, 0)
        passes, size = 1 + self.options.augmentation_passes, self.splits.images.size
        progress = Progress("Embedding", passes * len(positions), "images")
        views = []
        for number in range(passes):
            drawn = self.augment.draw(len(positions), *size, generator) if number else None
            views.append(self._apply(backbone, positions, drawn))
            progress.advance(len(positions))
        progress.finish()
        return torch.stack(views)

    def _apply(self, network: nn.Module, positions: NDArray[np.int64], drawn: Drawn | None = None) -> Tensor:
        """Run a network over images as they are or augmented, each process over its part of them; all get all."""
        shared = len(positions) >= self.world.size
        own = part_of(self.world, len(positions)) if shared else slice(0, len(positions))
        place = own.start

        def view(pixels: Tensor) -> Tensor:
            nonlocal place
            place += len(pixels)
            if drawn is None:
                return self._plain(pixels)
            return self.augment.apply(pixels, drawn.at(slice(place - len(pixels), place)))

        outputs = apply(network, self.splits.images, positions[own], view, self.device, self.precision)
        return self.world.gather(outputs) if shared else outputs

    def _batches_of(self, positions: NDArray[np.int64]) -> Iterator[Tensor]:
        batches = np.array_split(positions, -(-len(positions) // EMBEDDING_BATCH))
        return (self._plain(pixels) for pixels in fetch_batches(self.splits.images, batches, self.device))

    def _plain(self, pixels: Tensor) -> Tensor:
        return normalise(pixels, self.options.augmentation.mean, self.options.augmentation.std)

    def _fit(
        self,
        steps: Steps,
        batches: Callable[[int], Iterator[tuple[Tensor, Tensor, float]]],
        validate: Callable[[], Tensor],
        course: Course,
        epochs: int,
    ) -> None:
        """Train for so many epochs; then the network has the weights of the best epoch, of these or before them."""
        network, kept, before = steps.network, copy.deepcopy(steps.network.state_dict()), len(course.epochs)
        progress = Progress("Training", epochs, "epochs")
        for number in range(before + 1, before + epochs + 1):
            network.train()
            losses = [steps.step(inputs, labels, share) for inputs, labels, share in batches(number)]
            network.eval()
            epoch = self._judge(number, self._mean_loss(losses_of_all(steps.world, losses), number), validate)
            if course.add(epoch):
                kept = copy.deepcopy(network.state_dict())
            progress.advance(note=f"validation macro F1 {epoch.valid_macro_f1:.3f}, loss {epoch.valid_loss:.3f}")
            if number - max(course.best.number, before) >= self.options.patience:
                break
        progress.finish(f"kept epoch {course.best.number} with validation macro F1 {course.best.valid_macro_f1:.3f}")
        network.load_state_dict(kept)

    def _mean_loss(self, losses: Tensor, number: int) -> float:
        """The mean over processes x steps."""
        if bad := first_bad(losses):
            step, rank = bad
            where = f" on rank {rank}" if len(losses) > 1 else ""
            raise SparsightError(
                f"Training diverged: the loss became {losses[rank, step]:g}{where} in epoch {number}, step {step + 1} "
                f"(learning_rate {self.options.learning_rate:g}, {str(self.precision).removeprefix('torch.')}).",
                hint="Lower learning_rate, or take precision float32.",
            )
        return losses.mean().item()

    def _steps(self, network: nn.Module, world: Processes, epochs: int) -> Steps:
        options, weights = self.options, self._class_weights()
        optimizer = make_optimizer(
            network,
            options.optimizer,
            learning_rate=options.learning_rate,
            backbone_ratio=options.backbone_learning_rate_ratio,
            decay=options.weight_decay,
        )
        return Steps(
            network,
            optimizer,
            total=epochs * len(self._batches(torch.Generator())),
            likelihood=self.labels,
            weights=None if weights is None else torch.from_numpy(weights).to(self.device),
            device=self.device,
            precision=self.precision,
            world=world,
        )

    @torch.no_grad()  # not inference mode: what processes gather is changed in place
    def _judge(self, number: int, train_loss: float, validate: Callable[[], Tensor]) -> Epoch:
        logits, truth = validate(), self.splits.targets[self.splits.valid]
        predicted, known = self.labels.predicted(logits, truth), truth != UNKNOWN
        chances, targets = self.labels(logits).cpu()[known], torch.from_numpy(truth[known])
        return Epoch(
            number=number,
            train_loss=train_loss,
            valid_loss=functional.nll_loss(chances, targets).item() if known.any() else 0.0,
            valid_accuracy=float((predicted == truth).mean()),
            valid_macro_f1=macro_f1(truth, predicted),
        )


def logits_of(
    classifier: Classifier,
    images: PackedImages,
    positions: NDArray[np.int64],
    options: AugmentationOptions,
) -> Tensor:
    """Logits of images as they are, in full precision: float32, N x outputs, on the CPU."""
    device = next(classifier.parameters()).device
    logits = apply(classifier, images, positions, lambda pixels: normalise(pixels, options.mean, options.std), device)
    return logits.cpu()


def predict(
    classifier: Classifier,
    images: PackedImages,
    positions: NDArray[np.int64],
    options: AugmentationOptions,
) -> NDArray[np.float32]:
    """Class probabilities of images as they are, of a classifier without hierarchy: float32, N x classes."""
    chances: NDArray[np.float32] = logits_of(classifier, images, positions, options).softmax(dim=1).numpy()
    return chances
