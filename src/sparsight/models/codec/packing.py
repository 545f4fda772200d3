"""Code bits to bytes and back, by range coding with a context model."""

from collections.abc import Iterator

import constriction
import numpy as np
from numpy.typing import NDArray

from sparsight.models.codec.container import CompressedError
from sparsight.models.codec.contexts import Bits, Board, Contexts, passes

Chances = list[NDArray[np.float64]]
_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)


def chances_of(bits: Bits, contexts: Contexts) -> Chances:
    """For each plane and pass of bits, planes x h x w, the probabilities of a 1 that a decoder will know."""
    board = Board(*bits.shape[1:])
    planes = board.lay(bits)
    return [contexts.chances_of(board, planes, plane, number) for plane, number in passes(len(bits))]


def cost(bits: Bits, chances: Chances) -> NDArray[np.float64]:
    """Bits that coding takes up to and with each plane: float64, planes; a file has some 32 more."""
    each = np.zeros(len(bits))
    for (plane, _), symbols, likely in zip(passes(len(bits)), _symbols(bits), chances, strict=True):
        each[plane] -= np.log2(np.where(symbols == 1, likely, 1 - likely)).sum()
    return np.cumsum(each)


def pack(bits: Bits, chances: Chances) -> bytes:
    """Code bits, uint8 planes x h x w, plane by plane."""
    encoder = constriction.stream.queue.RangeEncoder()
    for symbols, likely in zip(_symbols(bits), chances, strict=False):
        encoder.encode(symbols, _BERNOULLI, likely)
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words.astype("<u4").tobytes()


def unpack(packed: bytes, shape: tuple[int, int, int], contexts: Contexts) -> Bits:
    """Decode bits of planes x h x w.

    Raises:
        CompressedError: there are more bytes than these bits take.
    """
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(packed, "<u4").astype(np.uint32))
    board = Board(*shape[1:])
    planes = board.empty(shape[0])
    for plane, number in passes(shape[0]):
        likely = contexts.chances_of(board, planes, plane, number)
        planes[plane, board.cells[number]] = decoder.decode(_BERNOULLI, likely)
    if not decoder.maybe_exhausted():
        raise CompressedError("The file holds more bits than an image of this size has.")
    return board.bits(planes)


def _symbols(bits: Bits) -> Iterator[NDArray[np.int32]]:
    """The bits in the order in which they are coded, a pass at a time."""
    board = Board(*bits.shape[1:])
    planes = board.lay(bits)
    for plane, number in passes(len(bits)):
        yield board.look(planes, (plane, 0, 0), number).astype(np.int32)
