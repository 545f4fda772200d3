"""Embeds an image set: each distinct image once, written as it comes, so that neither pixels nor results pile up."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from sparsight.data.artefact import is_finished, new_artefact
from sparsight.data.augment import normalise
from sparsight.data.embeddings import COLUMNS, EMBEDDINGS, INDEX
from sparsight.data.growing import GrowingArray
from sparsight.data.packed import FRAME_COLUMNS, PackedImages
from sparsight.models.backbones import network_digest
from sparsight.progress import Progress
from sparsight.training.base_model import BaseModel
from sparsight.training.inference import apply_by_batch, batches, measured_batch_norm
from sparsight.training.labelled import distinct
from sparsight.training.loop import fetch_batches

_MEASURED = 4096
"""So many images give a backbone with random weights its batch norm's statistics."""


def write_embeddings(
    images: PackedImages, base: BaseModel, target: Path, *, device: torch.device, precision: torch.dtype
) -> None:
    """Write an embeddings artefact; a finished one that was made of the very same is left as it is.

    A backbone with random weights first gets its batch norm's statistics from the images, as it does where a classifier
    is trained on it.

    Args:
        images: what to embed; rows are in the order of their index.
        base: the backbone, and what its input is.
        target: the artefact's folder.
        device: where to.
        precision: of matrix products.
    """
    parameters = {**model_parameters(base, precision), "images": dict(images.manifest.parameters)}
    if is_finished(target, "embeddings", parameters):
        return
    positions, _ = distinct(images, np.arange(len(images)))
    backbone = base.backbone.to(device).to(memory_format=torch.channels_last).eval()

    def view(pixels: Tensor) -> Tensor:
        return normalise(pixels, base.mean, base.std)

    if not measured_batch_norm(backbone):
        some = positions[:: -(-len(positions) // _MEASURED)]
        update_bn((view(pixels) for pixels in fetch_batches(images, batches(some), device)), backbone)
    width: int = backbone.num_features  # type: ignore[assignment]
    progress = Progress("Embedding", len(positions), "images")
    with new_artefact(target, "embeddings", parameters) as draft:
        with GrowingArray(draft.folder / EMBEDDINGS, (width,), np.float32) as written:
            for found in apply_by_batch(backbone, images, positions, view, device, precision):
                written.append(found.cpu().numpy())
                progress.advance(len(found))
        columns = [name for name in (*COLUMNS, *FRAME_COLUMNS) if name in images.index]
        images.index.iloc[positions][columns].to_parquet(draft.folder / INDEX, index=False)
        draft.counts.update(images=len(positions), dimensions=width)
    progress.finish()


def model_parameters(base: BaseModel, precision: torch.dtype) -> dict[str, Any]:
    """Describe what embeds, for the manifest."""
    return {
        "model": base.version or base.origin,
        "backbone_digest": network_digest(base.backbone),
        "backbone": base.description.model_dump(),
        "mean": base.mean,
        "std": base.std,
        "precision": str(precision).removeprefix("torch."),
    }
