"""Code bits to bytes and back, by range coding with a context model."""

from collections.abc import Iterator

import constriction
import numpy as np
from numpy.typing import NDArray

from sparsight.models.codec.container import CompressedError
from sparsight.models.codec.contexts import Bits, Board, Contexts, passes

_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)


def cost(bits: Bits, contexts: Contexts) -> NDArray[np.float64]:
    """Bits that coding takes up to and with each plane: float64, planes; a file has some 32 more."""
    each = np.zeros(len(bits))
    for plane, symbols, likely in _coded(bits, contexts):
        each[plane] += _information(symbols, likely)
    return np.cumsum(each)


def affordable(bits: Bits, contexts: Contexts, budget: float) -> int:
    """Count the planes that can be coded with so many bits, looking at no more of them than that takes."""
    spent = 0.0
    for plane, symbols, likely in _coded(bits, contexts):
        spent += _information(symbols, likely)
        if spent > budget:
            return plane
    return len(bits)


def pack(bits: Bits, contexts: Contexts) -> bytes:
    """Code bits, uint8 planes x h x w, plane by plane."""
    encoder = constriction.stream.queue.RangeEncoder()
    for _, symbols, likely in _coded(bits, contexts):
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


def _coded(bits: Bits, contexts: Contexts) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.float64]]]:
    """Pass by pass the plane, its bits, and the probabilities of a 1 that a decoder will know."""
    board = Board(*bits.shape[1:])
    planes = board.lay(bits)
    for plane, number in passes(len(bits)):
        symbols = board.look(planes, (plane, 0, 0), number).astype(np.int32)
        yield plane, symbols, contexts.chances_of(board, planes, plane, number)


def _information(symbols: NDArray[np.int32], likely: NDArray[np.float64]) -> float:
    """Bits that symbols cost which are 1 with these probabilities."""
    return -float(np.log2(np.where(symbols == 1, likely, 1 - likely)).sum())
