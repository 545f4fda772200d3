"""Trains a classifier on few labels: a head on frozen embeddings, or head and backbone together."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from sparsight.data.augment import Augmentation, AugmentationOptions, normalise
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.classifier import Classifier, Head
from sparsight.models.folder import HeadDescription
from sparsight.progress import Progress
from sparsight.training.fitting import Epoch, Steps, macro_f1, make_optimizer, one_thread
from sparsight.training.inference import EMBEDDING_BATCH, apply, measured_batch_norm
from sparsight.training.labelled import UNKNOWN, Balance, LabelledSplits, class_weights, distinct, epoch_order
from sparsight.training.loop import epoch_generator, fetch_batches


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """How to train. The component's contract says what each is for."""

    freeze_backbone: bool = True
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

    Args:
        backbone: with `num_features`; it is moved to the device and, unless frozen, changed.
        splits: the labelled images.
        options: of the training.
        device: where to.
        precision: of matrix products.
    """

    def __init__(
        self,
        backbone: nn.Module,
        splits: LabelledSplits,
        options: ClassifierOptions,
        *,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.splits, self.options, self.device, self.precision = splits, options, device, precision
        self.augment = Augmentation(options.augmentation)
        self.backbone = backbone.to(device).to(memory_format=torch.channels_last)
        self.targets = splits.targets[splits.train]

    def train(self, on_epoch: Callable[[Epoch], None] = lambda epoch: None) -> Trained:
        """Run all epochs, or until `patience` of them brought nothing better; `on_epoch` hears of each."""
        with torch.random.fork_rng():
            torch.manual_seed(self.options.seed)
            num_features: int = self.backbone.num_features  # type: ignore[assignment]
            description = HeadDescription(hidden=self.options.hidden, dropout=self.options.dropout)
            head = Head(num_features, len(self.splits.classes), description).to(self.device)
            classifier = Classifier(self.backbone, head)
            train = self._on_embeddings if self.options.freeze_backbone else self._on_images
            epochs, best = train(classifier, on_epoch)
        return Trained(classifier=classifier.eval(), epochs=tuple(epochs), best=best)

    def _on_embeddings(self, classifier: Classifier, on_epoch: Callable[[Epoch], None]) -> tuple[list[Epoch], Epoch]:
        self.backbone.eval().requires_grad_(False)
        kept, place = distinct(self.splits.images, self.splits.train)
        if not measured_batch_norm(self.backbone):
            update_bn(self._batches_of(kept), self.backbone)
        views = self._views(kept)
        std, mean = torch.std_mean(views.flatten(0, 1), dim=0)
        std = std + 1e-3
        valid = (self._apply(self.backbone, self.splits.valid) - mean) / std
        views = (views - mean) / std

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            generator = epoch_generator(self.options.seed, epoch)
            for part in self._parts(generator):
                which = torch.randint(len(views), (len(part),), generator=generator)
                yield views[which, torch.from_numpy(place[part])], self._targets_of(part)

        head = classifier.head
        with one_thread():
            result = self._fit(head, batches, lambda: functional.log_softmax(head(valid), dim=1), on_epoch)
        head.absorb_standardisation(mean, std)
        return result

    def _on_images(self, classifier: Classifier, on_epoch: Callable[[Epoch], None]) -> tuple[list[Epoch], Epoch]:
        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            generator = epoch_generator(self.options.seed, epoch)
            parts = self._parts(generator)
            pixels = fetch_batches(self.splits.images, [self.splits.train[part] for part in parts], self.device)
            for part, batch in zip(parts, pixels, strict=True):
                yield self.augment(batch, generator), self._targets_of(part)

        def validate() -> Tensor:
            return functional.log_softmax(self._apply(classifier, self.splits.valid), dim=1)

        return self._fit(classifier, batches, validate, on_epoch)

    def _parts(self, generator: torch.Generator) -> list[NDArray[np.int64]]:
        """Deal an epoch's images out into batches of nearly one size, none too small for batch norm."""
        order = epoch_order(self.targets, self.options.balance, generator)
        return np.array_split(order, -(-len(order) // self.options.batch_size))

    def _targets_of(self, part: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.targets[part]).to(self.device)

    def _views(self, positions: NDArray[np.int64]) -> Tensor:
        """Embed images as they are and augmented: float32, 1 + passes x N x D."""
        generator = epoch_generator(self.options.seed, 0)
        passes = 1 + self.options.augmentation_passes
        progress = Progress("Embedding", passes * len(positions), "images")

        def augmented(pixels: Tensor) -> Tensor:
            return self.augment(pixels, generator)

        views = []
        for number in range(passes):
            views.append(self._apply(self.backbone, positions, augmented if number else None))
            progress.advance(len(positions))
        progress.finish()
        return torch.stack(views)

    def _apply(
        self, network: nn.Module, positions: NDArray[np.int64], view: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        return apply(network, self.splits.images, positions, view or self._plain, self.device, self.precision)

    def _batches_of(self, positions: NDArray[np.int64]) -> Iterator[Tensor]:
        batches = np.array_split(positions, -(-len(positions) // EMBEDDING_BATCH))
        return (self._plain(pixels) for pixels in fetch_batches(self.splits.images, batches, self.device))

    def _plain(self, pixels: Tensor) -> Tensor:
        return normalise(pixels, self.options.augmentation.mean, self.options.augmentation.std)

    def _fit(
        self,
        network: nn.Module,
        batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]],
        validate: Callable[[], Tensor],
        on_epoch: Callable[[Epoch], None],
    ) -> tuple[list[Epoch], Epoch]:
        steps = self._steps(network)
        epochs: list[Epoch] = []
        best: Epoch | None = None
        kept: dict[str, Tensor] = {}
        progress = Progress("Training", self.options.epochs, "epochs")
        for number in range(1, self.options.epochs + 1):
            network.train()
            losses = [steps.step(inputs, labels) for inputs, labels in batches(number)]
            network.eval()
            epoch = self._judge(number, self._mean_loss(losses, number), validate)
            epochs.append(epoch)
            if epoch.better_than(best):
                best, kept = epoch, copy.deepcopy(network.state_dict())
            on_epoch(epoch)
            progress.advance(note=f"validation macro F1 {epoch.valid_macro_f1:.3f}, loss {epoch.valid_loss:.3f}")
            if best is not None and number - best.number >= self.options.patience:
                break
        assert best is not None  # noqa: S101 -- there is at least one epoch
        progress.finish(f"kept epoch {best.number} with validation macro F1 {best.valid_macro_f1:.3f}")
        network.load_state_dict(kept)
        return epochs, best

    def _mean_loss(self, losses: list[Tensor], number: int) -> float:
        mean = torch.stack(losses).mean().item()
        if not math.isfinite(mean):
            raise SparsightError(
                f"Training diverged: the loss became {mean} in epoch {number} "
                f"(learning_rate {self.options.learning_rate:g}, {str(self.precision).removeprefix('torch.')}).",
                hint="Lower learning_rate, or take precision float32.",
            )
        return mean

    def _steps(self, network: nn.Module) -> Steps:
        options, weights = self.options, None
        if options.balance == "class_weights":
            weights = torch.from_numpy(class_weights(self.targets, len(self.splits.classes))).to(self.device)
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
            total=options.epochs * len(self._parts(torch.Generator())),
            weights=weights,
            device=self.device,
            precision=self.precision,
        )

    @torch.inference_mode()
    def _judge(self, number: int, train_loss: float, validate: Callable[[], Tensor]) -> Epoch:
        chances = validate().cpu()
        truth = torch.from_numpy(self.splits.targets[self.splits.valid])
        predicted, known = chances.argmax(dim=1), truth != UNKNOWN
        loss = functional.nll_loss(chances[known], truth[known]).item() if known.any() else 0.0
        return Epoch(
            number=number,
            train_loss=train_loss,
            valid_loss=loss,
            valid_accuracy=(predicted == truth).float().mean().item(),
            valid_macro_f1=macro_f1(truth.numpy(), predicted.numpy()),
        )


def predict(
    classifier: Classifier,
    images: PackedImages,
    positions: NDArray[np.int64],
    options: AugmentationOptions,
) -> NDArray[np.float32]:
    """Class probabilities of images as they are, in full precision: float32, N x classes."""
    device = next(classifier.parameters()).device
    logits = apply(classifier, images, positions, lambda pixels: normalise(pixels, options.mean, options.std), device)
    chances: NDArray[np.float32] = logits.softmax(dim=1).cpu().numpy()
    return chances
