"""The step train_swav: pre-trains a backbone on unlabelled images or frames of videos with SwAV, and registers it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sparsight.steps.arguments import run_step
from sparsight.steps.pretraining import PretrainingArguments, pretrain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparsight.data.augment import Augmentation, AugmentationOptions
    from sparsight.evaluation.pretraining_report import LossMeaning
    from sparsight.models.backbones import Backbone
    from sparsight.models.swav import SwAV
    from sparsight.training.pretraining import Pretrainer


@dataclass(frozen=True, kw_only=True)
class Arguments(PretrainingArguments):
    """Inputs and outputs of the component train_swav."""

    step: ClassVar[str] = "train_swav"
    method: ClassVar[str] = "SwAV"

    model_name: str = "swav"
    prototypes: int = 300
    dimension: int = 128
    hidden_dimension: int = 2048
    temperature: float = 0.1
    epsilon: float = 0.02
    sinkhorn_iterations: int = 3
    queue_size: int = 2048
    queue_start_epoch: int = 15
    freeze_prototypes_epochs: int = 1
    stop_when_stuck: bool = True
    large_crop_size: int = 0
    small_crops: int = 6
    small_crop_size: int = 0
    small_crop_scale_min: float = 0.05
    small_crop_scale_max: float = 0.14
    crop_scale_min: float = 0.14

    def trainer(self) -> "type[Pretrainer[Any]]":
        """Train on crops."""
        from sparsight.training.swav import SwAVTrainer

        return SwAVTrainer

    def network(self, backbone: "Backbone") -> "SwAV":
        """Gather what makes up the task of predicting prototypes."""
        from sparsight.models.swav import SwAV, SwAVOptions

        return SwAV(backbone, self.gather(SwAVOptions))

    def views(self, augmentation: "AugmentationOptions", image_size: int) -> "Sequence[Augmentation]":
        """Two large crops, and the small ones."""
        from sparsight.data.crops import CropOptions, multi_crop

        scale = (self.small_crop_scale_min, self.small_crop_scale_max)
        return multi_crop(augmentation, self.gather(CropOptions, small_crop_scale=scale), image_size)

    def loss_meaning(self) -> "LossMeaning":
        """Say what the swapped prediction tells."""
        from sparsight.evaluation.pretraining_report import LossMeaning

        return LossMeaning(
            name="Swapped prediction loss",
            text=f"The loss tells how well the prototypes of one crop are predicted from the other crops of its image; "
            f"blind guessing among {self.prototypes:,} has {math.log(self.prototypes):.2f}. It may jump when the "
            "prototypes are let go, and when the queue comes in.",
        )


def main(arguments: Arguments) -> None:
    """Train where the model isn't there yet, and register it."""
    pretrain(arguments)


if __name__ == "__main__":
    run_step(Arguments, main)
