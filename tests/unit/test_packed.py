"""Reading packed images: gathering equals indexing one by one, and a folder that is not whole is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.data.packed import PackedImages, shard_name
from sparsight.errors import SparsightError
from tests.packed_images import write_packed_images

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 3), np.uint8)
SPLITS = ["train"] * 15 + ["valid"] * 5 + ["test"] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed_images(tmp_path_factory.mktemp("packed") / "images", PIXELS, ["a"] * 23, SPLITS, shards=5)


@settings(deadline=None)
@given(positions=st.lists(st.integers(0, 22), max_size=60))
def test_gathering_equals_indexing_one_by_one(folder: Path, positions: list[int]) -> None:
    gathered = PackedImages(folder).gather(np.array(positions, np.int64))
    naive = [PIXELS[position] for position in positions]
    assert gathered.dtype == np.uint8
    assert gathered.shape == (len(positions), 4, 4, 3)
    assert all((one == other).all() for one, other in zip(gathered, naive, strict=True))


def test_positions_are_those_of_a_split(folder: Path) -> None:
    images = PackedImages(folder)
    assert len(images) == 23
    assert images.size == (4, 4)
    assert images.positions("valid").tolist() == list(range(15, 20))
    assert images.positions("nowhere").tolist() == []


def test_repeated_rows_give_the_same_pixels(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "images")
    index = pd.read_parquet(copy / "index.parquet")
    pd.concat([index, index.iloc[[7, 7]]]).to_parquet(copy / "index.parquet")
    gathered = PackedImages(copy).gather(np.array([23, 7, 24]))
    assert (gathered == PIXELS[7]).all()


@pytest.mark.parametrize(("column", "value"), [("row", 99), ("row", -1), ("shard", 5), ("shard", -1)])
def test_an_index_that_points_outside_is_refused(folder: Path, tmp_path: Path, column: str, value: int) -> None:
    copy = shutil.copytree(folder, tmp_path / "images")
    index = pd.read_parquet(copy / "index.parquet")
    index.loc[3, column] = value
    index.to_parquet(copy / "index.parquet")
    with pytest.raises(SparsightError, match="isn't there"):
        PackedImages(copy)


def test_a_shard_of_other_numbers_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "images")
    np.save(copy / shard_name(1), np.zeros((5, 4, 4, 3), np.float32))
    with pytest.raises(SparsightError, match="expected uint8"):
        PackedImages(copy)


def test_frames_say_of_which_video_they_are(folder: Path, tmp_path: Path) -> None:
    assert not PackedImages(folder).has_frames
    videos, times = ["a"] * 20 + [""] * 3, [float(number) for number in range(20)] + [float("nan")] * 3
    frames = write_packed_images(tmp_path / "frames", PIXELS, [""] * 23, SPLITS, videos=videos, times=times)
    assert PackedImages(frames).has_frames


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"video": "a"}, "has a column video; expected video and time"),
        ({"video": None, "time": 1.0}, "must name a video"),
        ({"video": "a", "time": 1}, "time in float64 seconds"),
        ({"video": "a", "time": float("nan")}, "says no time of 'image-00000'"),
    ],
)
def test_an_index_that_half_says_so_is_refused(
    folder: Path, tmp_path: Path, columns: dict[str, object], message: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "images")
    pd.read_parquet(copy / "index.parquet").assign(**columns).to_parquet(copy / "index.parquet")
    with pytest.raises(SparsightError, match=message):
        PackedImages(copy)
