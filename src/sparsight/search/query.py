"""A photo as a query: through the very model whose embeddings an index holds, prepared as its photos were."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sparsight.data.augment import normalise
from sparsight.data.decode import decode_image
from sparsight.errors import SparsightError
from sparsight.models.backbones import network_digest
from sparsight.search.index import IndexDescription
from sparsight.stores.registry import is_reference
from sparsight.training.base_model import open_base_model


class QueryModel:
    """Embeds photos as those of an index were embedded, on the CPU.

    Args:
        backbone: of the index's model.
        description: of the index.

    Raises:
        SparsightError: the backbone has other weights than the index's.
    """

    def __init__(self, backbone: nn.Module, description: IndexDescription, name: str) -> None:
        if network_digest(backbone) != description.backbone_digest:
            raise SparsightError(
                f"The index is of {description.model}; {name} has other weights, so its embeddings can't be compared.",
                hint="Leave the model out, name the version that the index is of, or build a new index.",
            )
        self._backbone, self._description = backbone.eval(), description

    @torch.inference_mode()
    def embed(self, content: bytes) -> NDArray[np.float32]:
        """Turn an image file into an embedding, float32 D.

        Raises:
            DecodeError: the file holds no image, or too large a one.
        """
        described = self._description
        pixels = torch.from_numpy(decode_image(content, described.image_size, described.resize))
        found: NDArray[np.float32] = self._backbone(normalise(pixels[None], described.mean, described.std))[0].numpy()
        return found


def open_query_model(description: IndexDescription, model: str | None = None) -> QueryModel:
    """Open the model of an index.

    Args:
        description: of the index.
        model: where to take it from, in place of the version that the index names: a registered model, a model folder's
            path, or imagenet.

    Raises:
        SparsightError: the index names no version and no model is given, there is none, or it is another one.
    """
    name = model or description.model
    if model is None and not is_reference(name):
        raise SparsightError(
            f"The index doesn't say where its model is, only that it is of {name}.",
            hint="Give the model's folder, or imagenet, with --model.",
        )
    base = open_base_model(
        name,
        None,
        backbone=description.backbone,
        image_size=description.image_size,
        small_image_stem="on" if description.small_image_stem else "off",
    )
    return QueryModel(base.backbone, description, name)
