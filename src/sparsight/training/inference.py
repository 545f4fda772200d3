"""Runs networks over packed images, without gradients."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsight.data.packed import PackedImages
from sparsight.models.precision import mixed
from sparsight.training.loop import fetch_batches

EMBEDDING_BATCH = 256


def apply(
    network: nn.Module,
    images: PackedImages,
    positions: NDArray[np.int64],
    view: Callable[[Tensor], Tensor],
    device: torch.device,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Run a network over packed images, without gradients.

    Args:
        network: in the mode it shall run in.
        images: the pixels.
        positions: which ones.
        view: uint8 N x H x W x 3 to float N x 3 x H x W.
        device: where the network is.
        precision: of matrix products.

    Returns:
        float32, N x outputs, on the device.
    """
    return torch.cat([*apply_by_batch(network, images, positions, view, device, precision)])


@torch.no_grad()
def apply_by_batch(
    network: nn.Module,
    images: PackedImages,
    positions: NDArray[np.int64],
    view: Callable[[Tensor], Tensor],
    device: torch.device,
    precision: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Do as `apply` does, and yield the outputs of one batch after the other."""
    for pixels in fetch_batches(images, batches(positions), device):
        with mixed(device, precision):
            outputs = network(view(pixels)).float()
        yield outputs


def batches(positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut positions into batches that a network takes at once, in order."""
    return [positions[start : start + EMBEDDING_BATCH] for start in range(0, len(positions), EMBEDDING_BATCH)]


def measured_batch_norm(network: nn.Module) -> bool:
    """Whether some batch norm of the network holds statistics other than those it was built with, or there is none."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    return not layers or any(bool(layer.running_mean.any()) for layer in layers if layer.running_mean is not None)
