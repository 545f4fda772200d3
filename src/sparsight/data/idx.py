"""IDX files, the format of MNIST: images or labels as bytes, plain or compressed with gzip."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from sparsight.errors import SparsightError

MAX_BYTES = 2 * 2**30
"""What a file may declare: 40 times as much as MNIST's training images."""
_GZIP = b"\x1f\x8b"
_BYTES = 0x08
_CHUNK = 2**20


def read_images(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """Read an idx3-ubyte file.

    Args:
        path: of the file; whether it is compressed is seen by how it begins.
        max_bytes: refuse a file whose header announces more, before any pixel is read.

    Returns:
        Grey pixels, uint8, N x H x W.

    Raises:
        SparsightError: the file can't be read, isn't of this format, is larger than allowed, or has another length than
            its header says.
    """
    return _read(path, 3, "images", max_bytes)


def read_labels(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """Read an idx1-ubyte file, as `read_images` does: uint8, N."""
    return _read(path, 1, "labels", max_bytes)


def _read(path: Path, dimensions: int, what: str, max_bytes: int) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            content = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if compressed else file
            shape = _shape(path, content, dimensions, what)
            return _values(path, content, shape, max_bytes)
    except EOFError as error:
        raise _damaged(path, "its compressed content ends too early") from error
    except (OSError, zlib.error) as error:
        raise SparsightError(f"{path} can't be read: {error}.") from error


def _shape(path: Path, content: BinaryIO, dimensions: int, what: str) -> tuple[int, ...]:
    """Read the header: two zeros, the type of the values, the number of dimensions, and 4 bytes for each of these."""
    magic = content.read(4)
    expected = bytes([0, 0, _BYTES, dimensions])
    if magic != expected:
        raise SparsightError(
            f"{path} holds no {what} in IDX format: it begins with {magic.hex(' ') or 'nothing'}; "
            f"expected {expected.hex(' ')}.",
            hint="Give files as MNIST has them: ...-images-idx3-ubyte and ...-labels-idx1-ubyte, also with .gz.",
        )
    header = content.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise _damaged(path, "it ends within its header")
    return struct.unpack(f">{dimensions}I", header)


def _values(path: Path, content: BinaryIO, shape: tuple[int, ...], max_bytes: int) -> NDArray[np.uint8]:
    size = math.prod(shape)
    told = " x ".join(f"{side:,}" for side in shape)
    if not size:
        raise SparsightError(f"{path} is empty: its header says {told}.")
    if size > max_bytes:
        raise SparsightError(f"{path} says that it holds {told} bytes; at most {max_bytes:,} are read.")
    values = bytearray()
    while len(values) <= size and (chunk := content.read(min(_CHUNK, size + 1 - len(values)))):
        values += chunk
    if len(values) != size:
        found = f"{len(values):,} bytes" if len(values) < size else "more"
        raise _damaged(path, f"its header says {told}, which is {size:,} bytes, and {found} follow")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _damaged(path: Path, how: str) -> SparsightError:
    return SparsightError(f"{path} is damaged: {how}.", hint="Fetch the file again.")
