"""Trains one small network after another on parts of an image set: what a choice of training photos is worth."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.data.augment import AugmentationOptions
from sparsight.models.backbones import backbone_preprocessing, create_backbone
from sparsight.models.folder import BackboneDescription
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer, logits_of
from sparsight.training.labelled import LabelledSplits


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A network trained from random weights by stochastic gradient descent, with early stopping on the valid split.

    Attributes:
        backbone: what to build.
        epochs: at most.
        patience: epochs without anything better on the valid split after which it stops.
        batch_size: images of a step.
        learning_rate: at its highest.
        weight_decay: of all weights.
        crop_scale_min: smallest share of an image that a training view shows.
        horizontal_flip: probability.
        device: where to.
        precision: of matrix products.
    """

    backbone: BackboneDescription
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    crop_scale_min: float
    horizontal_flip: float
    device: torch.device
    precision: torch.dtype

    def accuracy(self, splits: LabelledSplits, chosen: NDArray[np.int64], seed: int) -> float:
        """Train on some of the training photos, and test.

        Args:
            splits: of the image set; its classes stay those of all training photos.
            chosen: int64, K: positions of the photos to train on.
            seed: of weights, batches and views.

        Returns:
            Share of the test split whose most probable class is right.

        Raises:
            SparsightError: training diverges.
        """
        torch.manual_seed(seed)
        options = self._options(seed)
        trainer = ClassifierTrainer(
            create_backbone(self.backbone),
            replace(splits, train=chosen),
            options,
            device=self.device,
            precision=self.precision,
        )
        classifier = trainer.train().classifier
        logits = logits_of(classifier, splits.images, splits.test, options.augmentation)
        predicted = np.array(splits.classes, object)[logits.argmax(dim=1).numpy()]
        return float((predicted == splits.labels[splits.test]).mean())

    def _options(self, seed: int) -> ClassifierOptions:
        mean, std, _ = backbone_preprocessing(self.backbone.name)
        augmentation = AugmentationOptions(
            crop_scale=(self.crop_scale_min, 1.0),
            horizontal_flip=self.horizontal_flip,
            jitter=0.0,
            greyscale=0.0,
            blur=0.0,
            mean=mean,
            std=std,
        )
        return ClassifierOptions(
            freeze_backbone=False,
            backbone_learning_rate_ratio=1.0,
            dropout=0.0,
            optimizer="sgd",
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            epochs=self.epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            augmentation=augmentation,
            seed=seed,
        )
