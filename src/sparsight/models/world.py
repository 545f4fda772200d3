"""The processes that share a batch, as a loss sees them: statistics and embeddings of all of them, not only its own."""

from typing import Protocol

from torch import Tensor


class World(Protocol):
    """One process and the others that train the same network, each on a part of every batch."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """The number of processes."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Join the tensors of all processes along the first axis, in the order of ranks; no gradient passes.

        Their lengths along this axis may differ.
        """

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up the tensors of all processes, such as a cross-correlation matrix or Sinkhorn's row sums.

        Gradients pass: what flows back into the sum of any process flows into every summand.
        """


class Alone:
    """The world of a process that trains by itself."""

    rank = 0
    size = 1

    def gather(self, tensor: Tensor) -> Tensor:
        """Give the tensor back."""
        return tensor

    def sum(self, tensor: Tensor) -> Tensor:
        """Give the tensor back."""
        return tensor


ALONE = Alone()
