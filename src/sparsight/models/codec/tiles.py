"""Images of any size through a network, tile by tile, as if whole: no seams, and memory for one tile."""

from collections.abc import Iterator
from dataclasses import dataclass

CELLS = 64
"""Cells a side of a tile."""


@dataclass(frozen=True)
class Tile:
    """A part of a grid of cells, with what is around it as far as that matters.

    Attributes:
        inner: rows and columns that the tile is responsible for.
        outer: rows and columns that its result depends on.
    """

    inner: tuple[slice, slice]
    outer: tuple[slice, slice]

    def of_outer(self, scale: int = 1) -> tuple[slice, slice]:
        """Where, inside what was made of `outer`, the part is that the tile is responsible for."""
        rows, columns = (
            scaled(slice(inner.start - outer.start, inner.stop - outer.start), scale)
            for inner, outer in zip(self.inner, self.outer, strict=True)
        )
        return rows, columns


def tiles(height: int, width: int, reach: int, side: int = CELLS) -> Iterator[Tile]:
    """Cut a grid into tiles that overlap by `reach` on either side.

    A convolutional network makes of a tile's inner part the same as of the whole grid: what it can see is there, and at
    the grid's edge both see the same zeros. So results are put side by side, and nothing is stored twice.

    Args:
        height: of the grid, in cells.
        width: of the grid, in cells.
        reach: cells that the result in one cell depends on, to each side.
        side: of a tile's inner part.
    """
    for row in range(0, height, side):
        for column in range(0, width, side):
            inner = slice(row, min(row + side, height)), slice(column, min(column + side, width))
            rows, columns = (
                slice(max(part.start - reach, 0), min(part.stop + reach, size))
                for part, size in zip(inner, (height, width), strict=True)
            )
            yield Tile(inner, (rows, columns))


def scaled(part: slice, factor: int) -> slice:
    """A slice of cells as one of pixels."""
    return slice(part.start * factor, part.stop * factor)
