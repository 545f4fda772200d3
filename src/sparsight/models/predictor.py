"""A model with everything around it: pixels in, and out come logits, embedding, and how far off the photo is."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from torch import Tensor, nn

from sparsight.data.augment import normalise
from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.models.classifier import open_backbone, open_classifier
from sparsight.models.familiarity import Familiarity
from sparsight.models.folder import ModelDescription, read_description, read_weights


class UnlikeImagesError(SparsightError):
    """Images of another size than a model was trained on, or made square in another way."""


class Outputs(NamedTuple):
    """What a model makes of B images; on the device.

    Attributes:
        embedding: float32, B x D.
        logits: float32, B x outputs of the head; None of a backbone alone.
        distance: float32, B; None where the model doesn't know what it was trained on.
    """

    embedding: Tensor
    logits: Tensor | None
    distance: Tensor | None


class Predictor(nn.Module):
    """A model folder's network between what it is given and what it says; in evaluation mode.

    Args:
        description: of the model.
        weights: of its network.
        familiarity: what it knows of its training images, if anything.
        origin: the folder that errors name.
    """

    def __init__(
        self,
        description: ModelDescription,
        weights: Mapping[str, Tensor],
        familiarity: Familiarity | None,
        origin: Path,
    ) -> None:
        super().__init__()
        self.description, self.familiarity = description, familiarity
        self.backbone: nn.Module
        self.head: nn.Module | None = None
        if description.kind == "classifier":
            classifier = open_classifier(description, weights, origin)
            self.backbone, self.head = classifier.backbone, classifier.head
        else:
            self.backbone = open_backbone(description, weights, origin)
        self.eval()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a model artefact on the CPU.

        Raises:
            SparsightError: not a model artefact, or damaged.
        """
        return cls(read_description(folder), read_weights(folder), Familiarity.read(folder), folder)

    def forward(self, images: Tensor) -> Outputs:
        """Turn pixels, uint8 B x H x W x 3 (RGB), into what the model makes of them."""
        return self.judge(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """Turn pixels into embeddings, float B x D."""
        preprocessing = self.description.preprocessing
        embedding: Tensor = self.backbone(normalise(images, preprocessing.mean, preprocessing.std))
        return embedding

    def judge(self, embedding: Tensor) -> Outputs:
        """Say what embeddings come to."""
        embedding = embedding.float()
        return Outputs(
            embedding=embedding,
            logits=None if self.head is None else self.head(embedding),
            distance=None if self.familiarity is None else self.familiarity(embedding),
        )


def check_images(images: PackedImages, description: ModelDescription, model: str) -> None:
    """Refuse images that aren't prepared as a model needs them; `model` is what the error calls it.

    Raises:
        UnlikeImagesError: they have another size, or were made square in another way.
    """
    wanted = (description.preprocessing.image_size, description.preprocessing.resize)
    found = (images.size[0], images.manifest.parameters["resize"])
    if found != wanted:
        raise UnlikeImagesError(
            f"{images.folder} holds images of {found[0]} pixels, resize {found[1]}; {model} was trained on {wanted[0]} "
            f"pixels, resize {wanted[1]}.",
            hint="Give images that data_prep made as the model needs them: its input preprocessing takes care of that.",
        )
