"""Writes IDX files."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def content_of(values: NDArray[np.uint8]) -> bytes:
    """The bytes of a file."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def store(file: Path, values: NDArray[np.uint8], compressed: bool = False) -> Path:
    """Write a file, and give it back."""
    file.write_bytes(gzip.compress(content_of(values)) if compressed else content_of(values))
    return file
