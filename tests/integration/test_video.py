"""Videos from Blob Storage, and the whole pipeline over a folder of them, with the real servers."""

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from films import scenes, write_film

from sparsight.data.video import FrameReader, Sampling, find_videos, read_frames
from sparsight.errors import SparsightError
from sparsight.local.records import all_runs
from sparsight.local.services import Services, environment
from sparsight.stores.images import ImageError, ImageStore
from sparsight.stores.settings import BlobSettings
from tests.gate import gate

ROOT = Path(__file__).parents[2]
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"
CONTAINER = "video-test"
SAMPLING = Sampling(width=32, min_difference=0)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "gate" / "morning 1.mp4", scenes(30))
    write_film(folder / "yard.mkv", scenes(20, seed=1))
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture
def uploaded(films: Path, service_environment: Services) -> str:
    async def upload() -> None:
        async with ImageStore() as store:
            await store.ensure_container(CONTAINER)
            for file in filter(Path.is_file, films.rglob("*")):
                name = file.relative_to(films).as_posix()
                await store.upload(f"{CONTAINER}/cameras/{name}", file.read_bytes(), "application/octet-stream")
            await store.upload(f"{CONTAINER}/cameras-old.mp4", b"another", "video/mp4")

    asyncio.run(upload())
    return f"{CONTAINER}/cameras/"


def test_videos_below_a_prefix_give_what_those_of_a_folder_give(uploaded: str, films: Path) -> None:
    below, local = find_videos(prefix=uploaded), find_videos(films)
    assert [video.name for video in below] == [video.name for video in local] == ["gate/morning 1.mp4", "yard.mkv"]
    assert len({video.digest() for video in below}) == 2
    one, other = list(read_frames(below, SAMPLING)), list(read_frames(local, SAMPLING))
    assert [frame.id for frame in one] == [frame.id for frame in other]
    assert all((a.pixels == b.pixels).all() for a, b in zip(one, other, strict=True))


def test_a_blob_that_is_too_large_is_one_failure(uploaded: str) -> None:
    reader = FrameReader(find_videos(prefix=uploaded, max_bytes=2000), SAMPLING)
    assert not list(reader)
    assert [failure.reason for failure in reader.failures] == ["too large (bytes)"] * 2


def test_a_prefix_without_videos_and_a_container_that_is_not_there_are_told(uploaded: str) -> None:
    with pytest.raises(SparsightError, match="There is no video below video-test/nothing/"):
        find_videos(prefix="video-test/nothing/")
    with pytest.raises(SparsightError, match="doesn't list what lies below 'no-such-container/'"):
        find_videos(prefix="no-such-container/")


def test_a_download_goes_on_where_the_connection_broke(services: Services, tmp_path: Path) -> None:
    settings = BlobSettings.from_environment(environment(services))
    content = np.random.default_rng(0).bytes(1_000_000)

    async def use(store: ImageStore, cut: int) -> None:
        await store.ensure_container(CONTAINER)
        await store.upload(f"{CONTAINER}/large.mp4", content, "video/mp4")
        broken.cut_after = cut
        await store.download_to(f"{CONTAINER}/large.mp4", tmp_path / "large.mp4")

    async def run(cut: int, **options: int) -> None:
        async with ImageStore(replace(settings, endpoint=url), **options) as store:
            await use(store, cut)

    with gate(settings.endpoint) as (broken, url):
        asyncio.run(run(500_000))
        assert (tmp_path / "large.mp4").read_bytes() == content
        with pytest.raises(ImageError, match="too large"):
            asyncio.run(run(0, max_bytes=100_000))


@pytest.mark.usefixtures("service_environment")
def test_the_pipeline_goes_from_a_folder_of_videos_to_pictures(films: Path, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    settings = {"videos": films, "model": "none", "backbone": "resnet10_narrow", "width": 32, "budget": 5}
    given = [f"--set={name}={value}" for name, value in {**settings, "min_difference": 1}.items()]
    pipeline = str(ROOT / "pipelines" / "sample_video.yml")
    command = [sys.executable, "-c", ENTRY, str(tmp_path / "project"), "run", pipeline, "--no-services", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(all_runs(tmp_path / "project" / "runs"))
    saved = pd.read_csv(run.step("frames") / "outputs" / "frames" / "frames.csv")
    assert len(saved) == 5
    assert set(saved[["width", "height"]].itertuples(index=False, name=None)) == {(96, 54)}
    page = (run.step("sample") / "outputs" / "selection" / "index.html").read_text()
    assert page.count("data:image/jpeg") == 5 + 1
    assert re.search(r"open .*/sample/outputs/selection/index\.html", done.stdout)
