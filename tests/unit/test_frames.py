"""Frames of videos: near ones become views of one another, and batches keep them apart."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.packed import PackedImages
from sparsight.errors import SparsightError
from sparsight.training.frames import FrameOptions, Frames, spaced_batches
from sparsight.training.loop import shuffled_batches
from tests.packed_images import write_packed_images


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def write(folder, videos, times, splits=None):
    pixels = np.zeros((len(videos), 8, 8, 3), np.uint8)
    splits = splits or ["train"] * len(videos)
    return write_packed_images(folder, pixels, [""] * len(videos), splits, videos=videos, times=times)


@pytest.fixture
def frames(tmp_path):
    """`frames(videos, times, splits, **gaps)`: of the train split; also its positions."""

    def make(videos, times, splits=None, **gaps):
        images = PackedImages(write(tmp_path / "images", videos, times, splits))
        positions = images.positions("train")
        return Frames(images, positions, FrameOptions(**gaps)), positions

    return make


def naive_batches(order, videos, times, size, gap):
    """What is promised, word for word: each batch looks at all that is left, in order, as often as it takes one."""
    left, batches = list(range(len(order))), []

    def keeps(frame, batch):
        return all(
            videos[frame] == -1 or videos[other] != videos[frame] or abs(times[other] - times[frame]) >= gap
            for other in batch
        )

    while len(left) >= size:
        batch = []
        while len(batch) < size:
            batch.append(next((frame for frame in left if frame not in batch and keeps(frame, batch)), None))
            if batch[-1] is None:
                batch[-1] = next(frame for frame in left if frame not in batch)
        left = [frame for frame in left if frame not in batch]
        batches.append([order[frame] for frame in batch])
    return batches


@given(
    frames=st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 20).map(lambda tenth: tenth / 4)), max_size=40),
    size=st.integers(1, 9),
    gap=st.sampled_from([0.0, 0.5, 1.0, 2.5, 100.0]),
)
def test_batches_are_those_of_the_definition(frames, size, gap):
    order = np.arange(len(frames)) + 1000
    videos, times = np.array([video for video, _ in frames], int), np.array([time for _, time in frames], float)
    found = [batch.tolist() for batch in spaced_batches(order, videos, times, size, gap)]
    assert found == naive_batches(order, videos, times, size, gap)
    assert len(found) == len(frames) // size
    assert len({frame for batch in found for frame in batch}) == len(found) * size, "no frame comes twice"


def test_frames_of_a_batch_are_apart_where_there_is_room(frames):
    """Two videos of 100 s at 10 frames a second hold 100 frames that are 2 s apart; batches of 20 find theirs."""
    videos, times = ["a"] * 1000 + ["b"] * 1000, [number / 10 for number in range(1000)] * 2
    sampler, positions = frames(videos, times, batch_gap_seconds=2.0)
    batches = list(sampler.batches(positions, 20, generator()))
    assert len(batches) == 100
    gaps = []
    for batch in batches:
        for half in (batch[batch < 1000], batch[batch >= 1000]):
            gaps.append(np.diff(np.sort(half)).min(initial=999) / 10)
    # The last frames left of an epoch may be near ones.
    assert np.mean(np.array(gaps) >= 2.0) > 0.9
    plain = shuffled_batches(positions, 20, generator())
    assert np.mean([np.diff(np.sort(batch % 1000)).min() / 10 >= 2.0 for batch in plain]) < 0.1


def test_without_a_gap_frames_are_shuffled_as_photos_are(frames):
    sampler, positions = frames(["a"] * 20, [0.1 * number for number in range(20)], frame_gap_seconds=1.0)
    ours, photos = sampler.batches(positions, 6, generator()), shuffled_batches(positions, 6, generator())
    assert [batch.tolist() for batch in ours] == [batch.tolist() for batch in photos]


@given(seed=st.integers(0, 99), gap=st.sampled_from([0.3, 1.0, 50.0]))
def test_partners_are_other_near_frames_of_the_same_video(tmp_path_factory, seed, gap):
    drawn = np.random.default_rng(seed)
    videos = [["a", "b", ""][number] for number in drawn.integers(0, 3, 30)]
    times = [
        float(time) if video else float("nan")
        for video, time in zip(videos, drawn.integers(0, 40, 30) / 4, strict=True)
    ]
    splits = [["train", "test"][number] for number in drawn.integers(0, 2, 30)]
    images = PackedImages(write(tmp_path_factory.mktemp("frames") / "images", videos, times, splits))
    positions = images.positions("train")
    partners = Frames(images, positions, FrameOptions(frame_gap_seconds=gap)).partners(positions, generator(seed))
    for frame, partner in zip(positions.tolist(), partners.tolist(), strict=True):
        near = [
            other
            for other in positions.tolist()
            if other != frame and videos[frame] == videos[other] != "" and abs(times[frame] - times[other]) <= gap
        ]
        assert partner in near if near else partner == frame


def test_each_near_frame_is_as_likely(frames):
    sampler, _ = frames(["a"] * 7, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], frame_gap_seconds=2.0)
    partners = sampler.partners(np.full(8000, 3), generator())
    values, counts = np.unique(partners, return_counts=True)
    assert values.tolist() == [1, 2, 4, 5]
    assert counts == pytest.approx([2000] * 4, rel=0.1)


def test_photos_have_no_frames(tmp_path):
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    images = PackedImages(write_packed_images(tmp_path / "images", pixels, [""] * 4, ["train"] * 4))
    with pytest.raises(SparsightError, match=r"no columns video and time.*\n.*frame_gap_seconds"):
        Frames(images, images.positions("train"), FrameOptions(frame_gap_seconds=1.0))


def test_a_gap_below_0_is_refused(frames):
    with pytest.raises(SparsightError, match="batch_gap_seconds is -1; expected 0 or more"):
        frames(["a"] * 4, [0.0, 1.0, 2.0, 3.0], batch_gap_seconds=-1.0)
