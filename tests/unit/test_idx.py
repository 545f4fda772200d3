"""IDX files: what is written is read again, and what is damaged is told."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsight.data.idx import read_images, read_labels
from sparsight.data.idx_folder import load_idx
from sparsight.errors import SparsightError
from tests.idx_files import content_of, store


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
    compressed=st.booleans(),
)
def test_what_is_written_is_read(
    shape: tuple[int, int, int], seed: int, compressed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    folder = tmp_path_factory.mktemp("idx")
    np.testing.assert_array_equal(read_images(store(folder / "images", values, compressed)), values)
    np.testing.assert_array_equal(read_labels(store(folder / "labels", values[:, 0, 0], compressed)), values[:, 0, 0])


VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = content_of(VALUES)
COMPRESSED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no images in IDX format: it begins with nothing; expected 00 00 08 03"),
        (b"\x89PNG....", "begins with 89 50 4e 47"),
        (content_of(VALUES[:, 0, 0]), "begins with 00 00 08 01"),
        (WHOLE.replace(b"\x08\x03", b"\x0d\x03", 1), "begins with 00 00 0d 03"),
        (WHOLE[:10], "is damaged: it ends within its header"),
        (WHOLE[:-1], "its header says 2 x 3 x 4, which is 24 bytes, and 23 bytes follow"),
        (WHOLE + b"x", "which is 24 bytes, and more follow"),
        (content_of(VALUES[:0]), "is empty: its header says 0 x 3 x 4"),
        (WHOLE[:4] + struct.pack(">3I", 2**31, 2**31, 2**31), "says that it holds 2,147,483,648 x .* bytes; at most"),
        (COMPRESSED[:-12], "ends too early"),
        (COMPRESSED[:-8] + bytes(8), "can't be read: CRC check failed"),
        (COMPRESSED[:10] + b"\xff" * 20, "can't be read: .*"),
    ],
)
def test_what_is_damaged_is_told(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SparsightError, match=rf"{tmp_path / 'file'} .*{message}"):
        read_images(tmp_path / "file")


def test_a_file_that_declares_more_than_is_allowed_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(WHOLE[:4] + struct.pack(">3I", 100, 100, 100) + bytes(10**6))
    (tmp_path / "file").write_bytes(bomb)
    with pytest.raises(SparsightError, match="100 x 100 x 100 bytes; at most 1,000 are read"):
        read_images(tmp_path / "file", max_bytes=1000)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=r"can't be read: .*No such file"):
        read_labels(tmp_path / "none")


def labels(count: int) -> NDArray[np.uint8]:
    return np.zeros(count, np.uint8)


def test_folders_that_cannot_do_are_refused_before_a_store_is_asked(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="is not a folder"):
        load_idx(tmp_path / "none")
    with pytest.raises(SparsightError, match=r"holds no images in IDX format; .*train-images-idx3-ubyte\.gz"):
        load_idx(tmp_path)
    store(tmp_path / "train-images-idx3-ubyte", VALUES)
    store(tmp_path / "train-labels-idx1-ubyte.gz", labels(3), compressed=True)
    with pytest.raises(SparsightError, match=r"holds 2 images, and .* 3 labels; expected as many of both"):
        load_idx(tmp_path)
    store(tmp_path / "train-images.idx3-ubyte", VALUES)
    with pytest.raises(SparsightError, match=r"the same images twice: train-images-idx3-ubyte and train-images\.idx3"):
        load_idx(tmp_path)
