"""The context model of code bits: how likely each bit is, given bits that a decoder has already.

Bits are coded plane by plane, a plane being one channel of a code, and each plane in two passes over a checkerboard.
What a bit may depend on is known for a whole pass at once: bits of earlier planes, here and in the four cells around,
and in the second pass also the four of its own plane. So NumPy codes a pass in bulk, and a decoder is as fast as an
encoder. Which bits count, and the probabilities, are learned from training images and are part of the model; both are
whole numbers, so that an encoder and a decoder can't differ by rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bits = NDArray[np.uint8]
DEPTH = 8
"""Bits that the probability of one depends on, at most."""
PASSES = 2
SCALE = 2**16
"""Probabilities are stored as parts of this."""
_AROUND = ((-1, 0), (1, 0), (0, -1), (0, 1))
_SHORTLIST = 12
_LEAST_GAIN = 0.0005
"""Bits: a context that saves less of each bit isn't worth its memory."""
_PREFIX = "contexts."


@dataclass(frozen=True, eq=False)
class Contexts:
    """For each plane and pass, which bits to look at, and the probability of a 1 for each of their patterns.

    Attributes:
        places: int16, planes x 2 x 8 x 3: plane, row offset and column offset of each bit to look at; plane -1 is none.
        chances: int32, planes x 2 x 256: parts of 65,536, 1 to 65,535; the pattern's first bit counts 1.
    """

    places: NDArray[np.int16]
    chances: NDArray[np.int32]

    def chances_of(self, board: "Board", planes: Bits, plane: int, number: int) -> NDArray[np.float64]:
        """The probability of a 1 for all bits of a plane's pass.

        Args:
            board: where the bits are.
            planes: as the board lays them out; what isn't known yet isn't looked at.
            plane: which.
            number: of the pass, 0 or 1.
        """
        pattern = np.zeros(len(board.cells[number]), np.int32)
        for position, place in enumerate(self.places[plane, number]):
            if place[0] >= 0:
                pattern |= board.look(planes, place, number).astype(np.int32) << position
        chances: NDArray[np.float64] = self.chances[plane, number][pattern] / SCALE
        return chances

    def state(self) -> dict[str, Tensor]:
        """Give what `of_state` takes, to be stored with a network's weights."""
        return {f"{_PREFIX}places": torch.from_numpy(self.places), f"{_PREFIX}chances": torch.from_numpy(self.chances)}

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor]) -> "Contexts":
        """Take what is stored beside a network's weights."""
        return cls(state[f"{_PREFIX}places"].numpy(), state[f"{_PREFIX}chances"].numpy())


def without_contexts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave of a model's weights those of the network."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_PREFIX)}


class Board:
    """A checkerboard of h x w cells: pass 0 has those whose row and column have an even sum, pass 1 the others.

    Planes lie flat, each with a border of zeros around it, so that a neighbour is a place further by the same number
    wherever a cell is.

    Attributes:
        cells: for each pass the places of its cells in a flat plane, row by row.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width, self._stride = height, width, width + 2
        parity = np.add.outer(np.arange(height), np.arange(width)) % 2
        found = [np.nonzero(parity == number) for number in range(PASSES)]
        self.cells = [(rows + 1) * self._stride + columns + 1 for rows, columns in found]

    def empty(self, planes: int) -> Bits:
        """Planes of zeros: uint8, `planes` x (h + 2)(w + 2)."""
        return np.zeros((planes, (self.height + 2) * self._stride), np.uint8)

    def lay(self, bits: Bits) -> Bits:
        """Lay bits, uint8 ... x h x w, out as flat planes: uint8, ... x (h + 2)(w + 2)."""
        surrounded = np.pad(bits, [(0, 0)] * (bits.ndim - 2) + [(1, 1), (1, 1)])
        return surrounded.reshape(*bits.shape[:-2], -1)

    def bits(self, planes: Bits) -> Bits:
        """Give the bits without the border: uint8, planes x h x w."""
        return planes.reshape(len(planes), self.height + 2, self._stride)[:, 1:-1, 1:-1]

    def look(self, planes: Bits, place: Sequence[int] | NDArray[np.int16], number: int) -> Bits:
        """The bits at a place, which is a plane, a row offset and a column offset, from all cells of a pass."""
        plane, down, right = map(int, place)
        found: Bits = planes[..., plane, :][..., self.cells[number] + (down * self._stride + right)]
        return found


def learn_contexts(bits: Bits) -> Contexts:
    """Learn a context model from codes of training images.

    For each plane and pass the bits that tell most are added one by one, as long as they save bits on images that they
    weren't chosen on.

    Args:
        bits: uint8, N x planes x h x w, of 0 and 1; half of the images choose, the other half judge.
    """
    board, count = Board(*bits.shape[2:]), bits.shape[1]
    planes = board.lay(bits)
    places = np.full((count, PASSES, DEPTH, 3), -1, np.int16)
    chances = np.full((count, PASSES, 2**DEPTH), SCALE // 2, np.int32)
    for plane, number in passes(count):
        learner = _PassLearner(board, planes, plane, number)
        learned, pattern = learner.learn()
        places[plane, number, : len(learned)] = np.array(learned, np.int16).reshape(-1, 3)
        chances[plane, number] = _chances(learner.target, pattern, 2**DEPTH)
    return Contexts(places, chances)


Place = tuple[int, int, int]


def _chances(target: Bits, pattern: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Probability of a 1 for each pattern, in parts of 65,536; an even one where there is nothing to learn from."""
    ones = np.bincount(pattern, weights=target, minlength=size)
    all_ = np.bincount(pattern, minlength=size)
    chances: NDArray[np.int32] = np.clip(np.rint((ones + 0.4) / (all_ + 0.8) * SCALE), 1, SCALE - 1).astype(np.int32)
    return chances


def _cost(target: Bits, pattern: NDArray[np.int32], chances: NDArray[np.int32]) -> float:
    """Bits a bit that coding takes."""
    likely = chances[pattern] / SCALE
    return float(-np.log2(np.where(target == 1, likely, 1 - likely)).mean())


class _PassLearner:
    """Chooses what one plane's pass looks at."""

    def __init__(self, board: Board, planes: Bits, plane: int, number: int) -> None:
        self.board, self.planes, self.number = board, planes, number
        self.target = self._look((plane, 0, 0))
        self.half = len(planes) // 2 * len(board.cells[number])
        self.candidates = [(earlier, *offset) for earlier in range(plane) for offset in ((0, 0), *_AROUND)]
        if number == 1:
            self.candidates += [(plane, *offset) for offset in _AROUND]

    def learn(self) -> tuple[list[Place], NDArray[np.int32]]:
        """Choose places, and give the pattern that each bit finds there."""
        shortlist = self._shortlist()
        chosen: list[Place] = []
        pattern: NDArray[np.int32] = np.zeros(len(self.target), np.int32)
        best = self._judge(pattern, 0)
        while len(chosen) < DEPTH and shortlist:
            tried = {place: pattern | bits.astype(np.int32) << len(chosen) for place, bits in shortlist.items()}
            costs = {place: self._judge(each, len(chosen) + 1) for place, each in tried.items()}
            place = min(costs, key=lambda place: costs[place])
            if best - costs[place] < _LEAST_GAIN:
                break
            best, pattern = costs[place], tried[place]
            chosen.append(place)
            del shortlist[place]
        return chosen, pattern

    def _look(self, place: Place) -> Bits:
        return self.board.look(self.planes, place, self.number).ravel()

    def _shortlist(self) -> dict[Place, Bits]:
        """The candidates that by themselves tell most, with their bits."""
        centred = self.target[: self.half].astype(np.float32) - self.target[: self.half].mean()
        strengths = [abs(self._correlation(centred, place)) for place in self.candidates]
        order = np.argsort(strengths, kind="stable")[::-1][:_SHORTLIST]
        return {self.candidates[at]: self._look(self.candidates[at]) for at in order}

    def _correlation(self, centred: NDArray[np.float32], place: Place) -> float:
        bits = self._look(place)[: self.half]
        mean = float(bits.mean())
        strength: float = float(centred @ bits) / max(mean * (1 - mean), 1e-6) ** 0.5
        return strength

    def _judge(self, pattern: NDArray[np.int32], depth: int) -> float:
        """Bits a bit on the second half of the images, by what the first half says."""
        half = self.half
        chances = _chances(self.target[:half], pattern[:half], 2**depth)
        return _cost(self.target[half:], pattern[half:], chances)


def passes(planes: int) -> Iterator[tuple[int, int]]:
    """Plane and pass in the order in which they are coded."""
    for plane in range(planes):
        for number in range(PASSES):
            yield plane, number
