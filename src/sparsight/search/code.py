"""A binary code: what turns embeddings into bits that are near where embeddings are; kept without pickle."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from sparsight.errors import SparsightError

MOST_BITS = 2048
_BATCH = 8192

Bits = NDArray[np.uint8]


class BinaryCode(nn.Module):
    """Affine layers with ReLU between them, on embeddings of length 1; the signs of what comes out are the bits.

    Every kind of code is one: PCA, ITQ and random hyperplanes have a single layer.

    Args:
        layers: weights, float32 outputs x inputs, and bias, float32 outputs, of each; at least one.

    Raises:
        SparsightError: the layers don't fit each other, or the number of bits is no multiple of 8.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_affine(weight, bias) for weight, bias in layers)
        shapes = [weight.shape for weight, _ in layers]
        if any(after[1] != before[0] for before, after in pairwise(shapes)):
            raise SparsightError(f"The layers of a code don't fit each other: {[tuple(shape) for shape in shapes]}.")
        self.dimensions, self.bits = int(shapes[0][1]), int(shapes[-1][0])
        check_bits(self.bits)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Turn embeddings, float N x D, into what has the bits as signs, float N x bits."""
        values = nn.functional.normalize(embeddings)
        for number, layer in enumerate(self.layers):
            values = layer(values.relu() if number else values)
        return values

    @torch.no_grad()
    def encode(self, embeddings: NDArray[np.floating[Any]]) -> Bits:
        """Turn embeddings, floating point N x D, memory-mapped or not, into codes, uint8 N x bits / 8.

        Raises:
            SparsightError: the embeddings have another number of dimensions, or hold a number that isn't finite.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimensions:
            raise SparsightError(
                f"The code is of embeddings of {self.dimensions} dimensions; these are {embeddings.shape}."
            )
        codes = np.empty((len(embeddings), self.bits // 8), np.uint8)
        for first in range(0, len(embeddings), _BATCH):
            part = np.array(embeddings[first : first + _BATCH], np.float32)  # a copy, as torch wants it
            if not np.isfinite(part).all():
                raise SparsightError(f"Embeddings from row {first:,} on hold a number that isn't finite.")
            codes[first : first + len(part)] = np.packbits(self(torch.from_numpy(part)).numpy() > 0, axis=1)
        return codes

    def to_bytes(self) -> bytes:
        """Write the layers as safetensors; equal layers give equal bytes."""
        tensors = {}
        for number, layer in enumerate(self.layers):
            for name, tensor in layer.state_dict().items():
                tensors[f"{number}.{name}"] = tensor.cpu().contiguous()
        return save(tensors)

    @classmethod
    def from_bytes(cls, content: bytes, origin: Path) -> Self:
        """Read what `to_bytes` has written; `origin` is the file that errors name.

        Raises:
            SparsightError: it is no such thing.
        """
        try:
            tensors = load(content)
            numbers = range(len(tensors) // 2)
            return cls([(tensors[f"{number}.weight"], tensors[f"{number}.bias"]) for number in numbers])
        except (SafetensorError, KeyError, IndexError, ValueError) as error:
            raise SparsightError(f"{origin} can't be read as a binary code: {error}") from error


def check_bits(bits: int) -> None:
    """Refuse a number of bits that codes can't have."""
    if bits % 8 or not 8 <= bits <= MOST_BITS:
        raise SparsightError(f"bits is {bits}; expected a multiple of 8, from 8 to {MOST_BITS}.")


def _affine(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = (nn.Parameter(tensor.float(), requires_grad=False) for tensor in (weight, bias))
    return layer
