"""Frames out of real videos: the right ones, at the right time and the right way up, and never all at once."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import decoded, nearest, scenes, write_film, write_sound
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sparsight.data.video import Frame, FrameReader, Sampling, find_videos, read_frames
from sparsight.data.video.novelty import difference
from sparsight.data.video.opening import VideoError
from sparsight.data.video.saving import full_frames
from sparsight.data.video.schedule import Packets, frames_to_take, is_h264_reference, length_bytes
from sparsight.errors import SparsightError

ALL = Sampling(width=48, min_difference=0, fast=False)
FAST = Sampling(width=48, min_difference=0)
KINDS = {
    "h264 with b-frames.mp4": {"options": {"bf": "3", "g": "40"}},
    "h264 without.mkv": {"options": {"bf": "0"}},
    "h264 over the air.ts": {"options": {"bf": "3"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "ten bits.mp4": {"pixels": "yuv444p10le"},
    "gray.mkv": {"codec": "ffv1", "pixels": "gray"},
    "rgb.mkv": {"codec": "ffv1", "pixels": "bgr0"},
    "jpegs.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
}


def frames(path: Path, sampling: Sampling = ALL, **options: float) -> list[Frame]:
    return list(read_frames(find_videos(path), sampling, **options))


def small(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """The mean of what each small pixel covers, by another library."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("name", KINDS)
def test_frames_taken_are_those_of_a_full_decode(name: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / name, scenes(75), rate=25, **KINDS[name])
    everything = dict(decoded(path))
    found = frames(path)
    assert [frame.time for frame in found] == pytest.approx(nearest(list(everything), ALL.fps), abs=1e-6)
    assert len(found) == 31
    for frame in found:
        time = min(everything, key=lambda each: abs(each - frame.time))
        assert frame.pixels.shape == (27, 48, 3)
        assert apart(frame.pixels, small(everything[time], 48, 27)) < 4
    ground = found[12].pixels
    others = [apart(ground, small(pixels, 48, 27)) for time, pixels in everything.items()]
    assert apart(ground, small(everything[min(everything, key=lambda t: abs(t - found[12].time))], 48, 27)) == min(
        others
    )


def test_what_is_passed_over_does_not_change_what_is_taken(tmp_path: Path) -> None:
    """Bit by bit the same as frames out of a decoder that passes over nothing."""
    path = write_film(tmp_path / "film.mp4", scenes(120, (320, 180)), options={"bf": "3", "b-pyramid": "normal"})
    everything = Sampling(fps=100, width=48, min_difference=0, fast=False)
    by_time = {round(frame.time, 4): frame.pixels for frame in frames(path, everything)}
    assert len(by_time) == 120
    for sampling in (ALL, FAST):
        found = frames(path, sampling)
        assert len(found) == 41
        for frame in found:
            np.testing.assert_array_equal(frame.pixels, by_time[round(frame.time, 4)])


def test_fast_takes_reference_frames_near_by(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", scenes(120), options={"bf": "3", "b-adapt": "0", "b-pyramid": "none"})
    exact, fast = (np.array([frame.time for frame in frames(path, sampling)]) for sampling in (ALL, FAST))
    assert (exact != fast).any()
    assert np.abs(exact - fast).max() <= 0.05 + 1e-6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        prefix = length_bytes(stream.codec_context.extradata)
        kinds = {
            packet.pts: is_h264_reference(memoryview(packet), prefix)
            for packet in container.demux(stream)
            if packet.pts is not None
        }
    with av.open(str(path)) as container:
        by_type = {frame.pts: frame.pict_type for frame in container.decode(video=0)}
    assert {pts: av.video.frame.PictureType(kind).name != "B" for pts, kind in by_type.items()} == kinds


@given(
    gaps=st.lists(st.sampled_from([1, 2, 10, 33, 34, 40, 100, 101, 250, 5000]), min_size=0, max_size=60),
    fps=st.sampled_from([0.5, 1, 7, 10, 29.97]),
)
def test_irregular_times_give_a_regular_pace(gaps: list[int], fps: float) -> None:
    stamps = np.cumsum([700, *gaps])
    ones = np.ones(len(stamps), bool)
    packets = Packets(pts=stamps, is_key=ones, is_reference=ones, seconds_per_tick=0.001, lost=0)
    taken = frames_to_take(packets, Sampling(fps=fps)).tolist()
    times = ((stamps - 700) * 0.001).tolist()
    assert [(stamp - 700) * 0.001 for stamp in taken] == pytest.approx(nearest(times, fps))
    assert len(taken) <= times[-1] * fps + 1.5


def test_a_variable_rate_is_read_by_its_time_stamps(tmp_path: Path) -> None:
    times = np.cumsum([0, *([0.02] * 30), 3.0, *([0.5] * 4), *([1 / 24] * 24)])
    path = write_film(tmp_path / "film.mp4", scenes(len(times)), times=times.tolist(), options={"bf": "2"})
    found = frames(path)
    assert [frame.time for frame in found] == pytest.approx(nearest(np.round(times, 3), 10), abs=1e-3)
    assert found[-1].id == f"film.mp4#t={times[-1]:.3f}"


def test_an_hour_is_no_matter(tmp_path: Path) -> None:
    path = write_film(tmp_path / "hour.mp4", scenes(61), times=[60.0 * number for number in range(61)])
    assert [frame.time for frame in frames(path)] == pytest.approx([60.0 * number for number in range(61)])


@pytest.mark.parametrize("name", KINDS)
def test_single_frames_are_found_again_at_full_size(name: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / name, scenes(75), rate=25, **KINDS[name])
    everything = decoded(path)
    wanted = [70, 3, 31, 32, 0]
    found = dict(full_frames(path, np.array([everything[number][0] for number in wanted])))
    assert sorted(found) == [0, 1, 2, 3, 4]
    for place, number in enumerate(wanted):
        assert found[place].shape == (54, 96, 3)
        distances = [apart(found[place], pixels) for _, pixels in everything]
        assert distances[number] == min(distances) < 3
    with pytest.raises(VideoError, match="no frame at 4 s"):
        dict(full_frames(path, np.array([3.5])))


@pytest.mark.parametrize(("rotation", "mirrored"), [(90, False), (-90, False), (180, False), (90, True), (0, True)])
def test_frames_are_turned_upright(rotation: int, mirrored: bool, tmp_path: Path) -> None:
    upright = scenes(6)
    # Stored so that turning it as asked for, then mirroring it, gives the upright picture.
    stored = [picture[:, ::-1] if mirrored else picture for picture in upright]
    stored = [np.rot90(picture, -rotation // 90) for picture in stored]
    path = write_film(
        tmp_path / "film.mp4",
        stored,
        pixels="yuv444p",
        rate=10,
        rotation=rotation,
        mirrored=mirrored,
        options={"qp": "5"},
    )
    for frame, picture in zip(frames(path), upright, strict=True):
        assert frame.pixels.shape == (27, 48, 3)
        assert apart(frame.pixels, small(picture, 48, 27)) < 3


def test_pixels_that_are_not_square_are_evened_out(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", scenes(4, (72, 54)), pixel_aspect=Fraction(4, 3))
    assert frames(path)[0].pixels.shape == (27, 48, 3)


def test_colours_are_those_that_went_in(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [np.full((64, 64, 3), (220, 30, 60), np.uint8)] * 3, options={"qp": "2"})
    assert np.abs(frames(path)[0].pixels.astype(int) - (220, 30, 60)).max() <= 4


def test_videos_of_other_shapes_get_bars(tmp_path: Path) -> None:
    write_film(tmp_path / "films" / "a.mp4", scenes(3))
    write_film(tmp_path / "films" / "deep" / "er" / "b.mkv", scenes(3, (54, 96)))
    found = frames(tmp_path / "films")
    assert {frame.video for frame in found} == {"a.mp4", "deep/er/b.mkv"}
    assert {frame.pixels.shape for frame in found} == {(27, 48, 3)}
    tall = found[-1].pixels
    assert not tall[:, :16].any()
    assert not tall[:, -16:].any()
    assert tall[:, 17:31].any(axis=2).all()


def test_what_is_like_the_frame_before_is_left_out(tmp_path: Path) -> None:
    still = scenes(1)[0]
    moved = still.copy()
    moved[40:52, 70:82] = 0
    path = write_film(tmp_path / "film.mp4", [still] * 20 + [moved] * 20 + [still] * 20, rate=10)
    reader = FrameReader(find_videos(path), Sampling(width=48))
    assert [frame.time for frame in reader] == pytest.approx([0, 2, 4])
    assert (reader.decoded, reader.duplicates) == (60, 57)
    assert len(frames(path)) == 60


def test_what_is_small_counts() -> None:
    one = np.full((56, 100, 3), 100, np.uint8)
    other = one.copy()
    other[20:24, 50:54] += 100
    assert difference(one, one) == 0
    assert 10 < difference(one, other) <= 25
    assert difference(other, one) == difference(one, other)
    assert difference(one[:3, :5], other[:3, :5] + 7) == 7


def test_only_a_few_frames_are_in_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = write_film(tmp_path / f"{count}.mp4", scenes(count), rate=10, options={"preset": "ultrafast"})
        reader = FrameReader(find_videos(path), Sampling(width=96, min_difference=0))
        tracemalloc.start()
        try:
            assert sum(1 for _ in reader) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)  # whatever is set up once
    few, many = peak(60), peak(480)
    assert few > 96 * 54 * 3
    assert many < few + 12 * 96 * 54 * 3


def refusal(path: Path, sampling: Sampling = ALL) -> str:
    with pytest.raises(SparsightError) as caught:
        frames(path, sampling)
    assert "1 of 1 videos failed" in str(caught.value)
    return caught.value.problem


def test_what_is_no_video_is_told_in_one_sentence(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scenes(60))
    content = film.read_bytes()
    cases = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"It was a dark and stormy night.\n" * 400, "not a video of a known kind"),
        "noise.mkv": (np.random.default_rng(0).bytes(20_000), "not a video of a known kind"),
        "cut.mp4": (content[: len(content) // 2], "truncated or damaged"),
        "list.mp4": (f"#EXTM3U\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n".encode(), "not a video of a known kind"),
        "list.avi": (f"ffconcat version 1.0\nfile {film.name}\n".encode(), "not a video of a known kind"),
    }
    for name, (bytes_, reason) in cases.items():
        (tmp_path / name).write_bytes(bytes_)
        assert f"{name}: {reason}" in refusal(tmp_path / name)
    assert "no video stream" in refusal(write_sound(tmp_path / "sound.mp4"))
    assert "too large (pixels)" in refusal(film, Sampling(max_pixels=96 * 54 - 1))
    assert "too long (seconds)" in refusal(film, Sampling(max_seconds=1.5))
    thread = write_film(tmp_path / "thread.mkv", [np.zeros((900, 16, 3), np.uint8)] * 2, codec="ffv1", pixels="bgr0")
    assert "more than 16 times as long as wide" in refusal(thread)
    odd = write_film(tmp_path / "odd.mp4", scenes(2), pixel_aspect=Fraction(100, 1))
    assert frames(odd)[0].pixels.shape == (27, 48, 3)
    assert len(frames(film, Sampling(max_pixels=96 * 54, max_seconds=2, min_difference=0))) == 21


def test_a_video_that_breaks_off_gives_what_there_is(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "film.mp4", scenes(90), options={"g": "15"})
    moved = write_film(tmp_path / "moved.mkv", scenes(90), options={"g": "15"})
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as to,
    ):
        stream = to.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                to.mux(packet)
    front = (tmp_path / "front.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(front[: len(front) * 2 // 3])
    reader = FrameReader(find_videos(cut), ALL)
    found = list(reader)
    assert 5 < len(found) < 30
    (failure,) = reader.failures
    assert failure.reason.startswith("truncated")
    assert failure.share == pytest.approx(1 - len(found) / 30, abs=0.05)
    with pytest.raises(SparsightError, match=r"cut\.mp4: truncated: .* of the frames are missing"):
        reader.check(0.01)
    reader.check(0.9)
    content = moved.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    assert 3 < len(frames(tmp_path / "cut.mkv", max_failures=1)) < 30


def test_damage_inside_costs_the_frames_it_hits(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", scenes(90, (320, 180)), options={"g": "15", "bf": "0"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(content)
    reader = FrameReader(find_videos(path), ALL)
    found = list(reader)
    assert 15 <= len(found) < 31
    (failure,) = reader.failures
    assert failure.reason.startswith("damaged")
    assert 0 < failure.share < 0.5


def test_one_bad_video_among_good_ones_is_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_film(tmp_path / f"{name}.mp4", scenes(6))
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("no video by its ending")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    reader = FrameReader(find_videos(tmp_path), ALL)
    assert {frame.video for frame in reader} == {"a.mp4", "b.mp4", "c.mp4"}
    assert (
        reader.failure_table().to_csv(index=False) == "video,reason,missing\nbad.mp4,not a video of a known kind,1.0\n"
    )
    reader.check(0.25)
    with pytest.raises(SparsightError, match=r"1 of 4 videos failed \(1 not a video of a known kind\)"):
        reader.check(0.2)


def test_where_there_are_no_videos_it_is_said(tmp_path: Path) -> None:
    outside = write_film(tmp_path / "outside.mp4", scenes(2))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.mp4").symlink_to(outside)
    with pytest.raises(SparsightError, match="There is no video below"):
        find_videos(folder)
    with pytest.raises(SparsightError, match="is not there"):
        find_videos(tmp_path / "none")
    with pytest.raises(SparsightError, match="give one of them"):
        find_videos(None)


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"fps": float("nan")}, {"width": 4}, {"min_difference": 300}])
def test_samplings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SparsightError, match=f"{next(iter(wrong))} is .*; expected"):
        Sampling(**wrong)
