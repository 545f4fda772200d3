"""Runs a classifier over an image set, batch by batch, so that neither pixels nor predictions pile up."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsight.data.packed import PackedImages
from sparsight.models.precision import mixed
from sparsight.models.prediction import Reader
from sparsight.models.predictor import Predictor
from sparsight.training.inference import batches
from sparsight.training.loop import fetch_ahead


def predict_by_batch(
    predictor: Predictor,
    reader: Reader,
    images: PackedImages,
    positions: NDArray[np.int64],
    *,
    precision: torch.dtype = torch.float32,
) -> Iterator[tuple[NDArray[np.int64], list[dict[str, Any]]]]:
    """Predict images, in the order of their positions.

    Args:
        predictor: on the device where it shall run.
        reader: of its outputs.
        images: prepared as the model needs them.
        positions: which ones.
        precision: of the backbone's matrix products.

    Yields:
        Positions of a batch, and for each a row: id, split, and what `Reader.read` tells.
    """
    device = next(predictor.parameters()).device
    ids, splits = images.index["id"].to_numpy(object), images.index["split"].to_numpy(object)
    for batch, pixels in fetch_ahead(images, ((batch, batch) for batch in batches(positions)), device):
        with torch.inference_mode():
            with mixed(device, precision):
                embedding = predictor.embed(pixels)
            rows, _ = reader.read(predictor.judge(embedding))
        named = zip(ids[batch], splits[batch], rows, strict=True)
        yield batch, [{"id": name, "split": split, **row} for name, split, row in named]
