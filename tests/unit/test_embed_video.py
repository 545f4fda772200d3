"""From videos to chosen frames: embedded while they are decoded, chosen by the step for photos, saved at full size."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from films import decoded, scenes, write_film
from PIL import Image

from sparsight.data.artefact import read_manifest
from sparsight.data.augment import normalise
from sparsight.data.embeddings import Embeddings
from sparsight.data.packed import PackedImages
from sparsight.data.selected import load_selected
from sparsight.data.video import Frame, FrameReader, Sampling, find_videos, read_frames
from sparsight.errors import SparsightError
from sparsight.selection import select
from sparsight.steps import embed_video, sample_subset, save_frames
from sparsight.training import video_embedding
from sparsight.training.base_model import BaseModel, open_base_model
from sparsight.training.video_embedding import FrameEmbedder
from sparsight.training.videos import embed_videos

CPU = torch.device("cpu")
SAMPLING = Sampling(width=32, min_difference=2)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos: one that moves, one that hardly does, one that isn't any."""
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "moving.mp4", scenes(90), options={"bf": "3", "g": "30"})
    still = scenes(2, seed=1)
    write_film(folder / "night" / "still.mkv", [still[0]] * 40 + [255 - still[0]] * 20)
    return folder


@pytest.fixture
def base() -> BaseModel:
    base = open_base_model("none", None, backbone="resnet10_narrow", image_size=32)
    base.backbone.bn1.running_mean.fill_(0.1)  # as if it had been trained
    return base


def arguments(films: Path, folder: Path, **changes: object) -> embed_video.Arguments:
    plain = embed_video.Arguments(
        videos=films,
        embeddings=folder / "embeddings",
        images=folder / "images",
        model="none",
        backbone="resnet10_narrow",
        width=32,
        min_difference=2,
        precision="float32",
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def embedded(films: Path, tmp_path_factory: pytest.TempPathFactory) -> embed_video.Arguments:
    made = arguments(films, tmp_path_factory.mktemp("embedded"))
    embed_video.main(made)
    return made


def test_each_frame_gets_what_the_backbone_makes_of_it(films: Path, base: BaseModel, monkeypatch) -> None:
    monkeypatch.setattr(video_embedding, "BATCH", 7)
    reader = FrameReader(find_videos(films), SAMPLING)
    batches = list(FrameEmbedder(base, CPU, torch.float32).embed(reader))
    expected = list(read_frames(find_videos(films), SAMPLING))
    found = [frame for batch in batches for frame in batch.frames]
    assert [frame.id for frame in found] == [frame.id for frame in expected]
    assert len(found) == 33
    pixels = torch.from_numpy(np.stack([frame.pixels for frame in expected]))
    with torch.inference_mode():
        alone = base.backbone(normalise(pixels, base.mean, base.std))
    np.testing.assert_allclose(np.concatenate([batch.embeddings for batch in batches]), alone, rtol=1e-3, atol=1e-4)


def test_decoding_is_only_a_few_batches_ahead(base: BaseModel, monkeypatch) -> None:
    monkeypatch.setattr(video_embedding, "BATCH", 4)
    drawn = 0

    def endless():
        nonlocal drawn
        while True:
            drawn += 1
            yield Frame("film", drawn / 10, np.zeros((18, 32, 3), np.uint8))

    embedder = FrameEmbedder(base, CPU, torch.float32)
    stream = embedder.embed(endless())
    for number in range(1, 30):
        assert len(next(stream).frames) == 4
        assert drawn <= 4 * (number + embedder._workers + 1)
    stream.close()
    assert torch.get_num_threads() >= 1


def test_the_artefacts_say_of_which_video_each_row_is_and_when(embedded: embed_video.Arguments) -> None:
    embeddings, images = Embeddings(embedded.embeddings), PackedImages(embedded.images)
    assert embeddings.values.shape == (33, 256)
    assert images.size == (18, 32)
    for index in (embeddings.index, images.index):
        named = zip(index["video"], index["time"], strict=True)
        assert index["id"].tolist() == [f"{video}#t={time:.3f}" for video, time in named]
        assert set(index["split"]) == {"train"}
        assert set(index["label"]) == {""}
        assert index["video"].value_counts().to_dict() == {"moving.mp4": 31, "night/still.mkv": 2}
        assert index["time"].dtype == np.float64
    expected = list(read_frames(find_videos(embedded.videos), SAMPLING))
    np.testing.assert_array_equal(images.gather(np.arange(33)), np.stack([frame.pixels for frame in expected]))
    counts = read_manifest(embedded.embeddings, "embeddings").counts
    assert counts == {"images": 33, "videos": 2, "duplicates": 19, "failures": 0}
    assert (embedded.images / "failures.csv").read_text() == "video,reason,missing\n"


def test_the_same_videos_give_the_same_bytes_and_are_embedded_once(
    embedded: embed_video.Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = dataclasses.replace(embedded, embeddings=tmp_path / "embeddings", images=tmp_path / "images")
    embed_video.main(again)
    assert "x real time" in capsys.readouterr().out
    for folder in ("embeddings", "images"):
        one, other = (sorted(getattr(each, folder).iterdir()) for each in (embedded, again))
        assert [file.name for file in one] == [file.name for file in other]
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, other, strict=True))
    embed_video.main(again)
    assert "x real time" not in capsys.readouterr().out
    with pytest.raises(SparsightError, match="finished already"):
        embed_video.main(dataclasses.replace(again, fps=5.0))


def test_too_many_failures_leave_a_list_and_no_artefact(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write_film(mixed / "good.mp4", scenes(9))
    (mixed / "bad.mp4").write_bytes(b"x")
    with pytest.raises(SparsightError, match=r"1 of 2 videos failed .*failures\.csv"):
        embed_video.main(arguments(mixed, tmp_path))
    assert not (tmp_path / "embeddings").exists()
    assert "bad.mp4,not a video" in (tmp_path / "images.partial" / "failures.csv").read_text()
    embed_video.main(arguments(mixed, tmp_path, max_failures=0.5))
    assert len(Embeddings(tmp_path / "embeddings")) == 4


def chosen_from(embedded: embed_video.Arguments, selection: Path) -> Path:
    sample_subset.main(
        sample_subset.Arguments(
            embeddings=embedded.embeddings,
            images=embedded.images,
            selection=selection,
            budget=6,
            strategy="farthest_point",
        )
    )
    return selection


def test_frames_are_chosen_shown_and_saved_at_full_size(embedded: embed_video.Arguments, tmp_path: Path) -> None:
    selection = chosen_from(embedded, tmp_path / "selection")
    table = load_selected(selection)
    assert table.columns.tolist() == ["rank", "id", "distance", "video", "time"]
    assert (selection / "index.html").read_text().count("data:image/jpeg") == 6 + 1
    for kind, suffix in (("png", "png"), ("jpeg", "jpg")):
        step = save_frames.Arguments(
            selection=selection, videos=embedded.videos, frames=tmp_path / kind, format=kind, quality=90
        )
        save_frames.main(step)
        saved = pd.read_csv(tmp_path / kind / "frames.csv")
        assert saved.columns.tolist() == ["rank", "id", "video", "time", "file", "width", "height"]
        assert saved["id"].tolist() == table["id"].tolist()
        assert {path.name for path in (tmp_path / kind).glob(f"*.{suffix}")} == set(saved["file"])
        for row in saved.itertuples():
            everything = decoded(embedded.videos / row.video)
            pixels = min(everything, key=lambda each: abs(each[0] - row.time))[1]
            with Image.open(tmp_path / kind / row.file) as image:
                found = np.asarray(image)
            assert found.shape == (row.height, row.width, 3) == pixels.shape
            assert np.abs(found.astype(int) - pixels.astype(int)).mean() < (2 if kind == "png" else 6)
    first = saved.iloc[0]
    stem = first["video"].rsplit(".", 1)[0].replace("/", "-")
    assert first["file"] == f"00001_{stem}_00h00m{first['time']:06.3f}s.jpg"
    made = (tmp_path / "jpeg" / "frames.csv").stat().st_mtime_ns
    save_frames.main(step)
    assert (tmp_path / "jpeg" / "frames.csv").stat().st_mtime_ns == made


def test_frames_of_other_videos_are_not_saved(embedded: embed_video.Arguments, films: Path, tmp_path: Path) -> None:
    selection = chosen_from(embedded, tmp_path / "selection")
    other = tmp_path / "other"
    write_film(other / "unlike.mp4", scenes(3))
    step = save_frames.Arguments(selection=selection, videos=other, frames=tmp_path / "frames")
    with pytest.raises(SparsightError, match=r"videos of the chosen frames aren't there; the first is moving\.mp4"):
        save_frames.main(step)
    for name in ("moving.mp4", "night/still.mkv"):
        write_film(other / name, scenes(3))
    with pytest.raises(SparsightError, match=r"frames failed.*it isn't the video that was chosen from"):
        save_frames.main(step)
    assert not (tmp_path / "frames").exists()
    with pytest.raises(SparsightError, match="is a choice of photos; expected frames"):
        photos = tmp_path / "photos"
        pd.read_csv(selection / "selected.csv").drop(columns=["video", "time"]).to_csv(
            selection / "selected.csv", index=False
        )
        save_frames.main(dataclasses.replace(step, frames=photos))


def test_in_python_it_takes_three_lines(films: Path, tmp_path: Path) -> None:
    found = embed_videos(films, model="none", backbone="resnet10_narrow", sampling=SAMPLING)
    chosen = select(found.embeddings, budget=5)
    found.save(chosen.rows, tmp_path / "chosen")
    saved = pd.read_csv(tmp_path / "chosen" / "frames.csv")
    assert saved["id"].tolist() == found.frames["id"].iloc[chosen.rows].tolist()
    assert all((tmp_path / "chosen" / file).is_file() for file in saved["file"])
