"""The step data_prep against a real Azurite: pixels, order, failures, kills, and the same bytes whatever happened."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from sparsight.data import packing, packing_plan
from sparsight.data.decode import decode_image
from sparsight.data.fetching import Packing
from sparsight.data.packed import PackedImages, shard_name
from sparsight.data.packing import pack_images
from sparsight.errors import SparsightError
from sparsight.local.services import Services, environment
from tests.gate import gate
from tests.photos import COUNT, PHOTOS, contents, table, upload, write_dataset

SMALL_SHARDS = 16
# Runs the step as its command line does, but with shards so small that there are many.
DRIVER = f"""
import sys
from sparsight.data import packing_plan
from sparsight.steps.arguments import run_step
from sparsight.steps.data_prep import Arguments, main
packing_plan.SHARD_ROWS = {SMALL_SHARDS}
run_step(Arguments, main, sys.argv[1:])
"""


@pytest.fixture(scope="session")
def container(services: Services) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(services).items():
            patch.setenv(name, value)
        upload("data-prep-test", PHOTOS)
    return "data-prep-test"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_plan, "SHARD_ROWS", SMALL_SHARDS)


pytestmark = pytest.mark.usefixtures("service_environment")


def start(dataset: Path, images: Path, **options: Any) -> "subprocess.Popen[str]":
    flags = {"dataset": dataset, "images": images, "image_size": 24, **options}
    command = [
        sys.executable,
        "-c",
        DRIVER,
        *(part for key, value in flags.items() for part in (f"--{key}", str(value))),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_the_step_packs_what_the_dataset_says(container: str, tmp_path: Path) -> None:
    names = list(PHOTOS)
    train, valid, test = names[40:] + names[50:60] * 2, names[:20], names[20:40]
    dataset = table(container, train + valid + test)
    dataset["split"] = ["train"] * len(train) + ["valid"] * 20 + ["test"] * 20
    folder = write_dataset(tmp_path / "dataset", dataset)
    status, output = finish(start(folder, tmp_path / "images", resize="crop"))
    assert status == 0, output
    assert f"{COUNT}/{COUNT} images" in output
    images = PackedImages(tmp_path / "images")
    assert images.index["id"].tolist() == train + valid + test
    assert images.index["label"].tolist() == dataset["label"].tolist()
    assert [len(images.positions(split)) for split in ("train", "valid", "test")] == [140, 20, 20]
    pixels = images.gather(np.arange(len(images)))
    for name, packed in zip(train + valid + test, pixels, strict=True):
        assert (packed == decode_image(PHOTOS[name], 24, "crop")).all()
    assert images.manifest.counts == {
        "images": COUNT, "rows": 180, "shards": 10, "failures": 0, "train": 140, "valid": 20, "test": 20,
    }  # fmt: skip
    assert (tmp_path / "images" / "failures.csv").read_text() == "id,uri,reason\n"
    assert images.origin.query == {"containers": "photos", "limit": None}
    assert images.origin.counts == {"train": 140}
    assert images.origin.digest == images.manifest.parameters["dataset_sha256"]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_image_left_out_has_its_reason(container: str, tmp_path: Path) -> None:
    files = {
        "truncated": half(PHOTOS["photo-000"]),
        "empty": b"",
        "text": b"no photo",
        "bomb": bomb(),
        "heavy": PHOTOS["photo-001"] + bytes(200_000),
        "changed": PHOTOS["photo-002"],
    }
    upload(container, files)
    names = ["photo-003", "truncated", "empty", "gone", "photo-004", "text", "bomb", "heavy", "changed"]
    dataset = table(container, names, {**PHOTOS, "changed": b"as it was", "empty": b"as it was"})
    elsewhere = pd.DataFrame([{"id": "e", "uri": "https://elsewhere.example/a/b", "split": "test"}])
    dataset = pd.concat([dataset, elsewhere], ignore_index=True).fillna("")
    target = tmp_path / "images"
    limits = Packing(size=16, max_bytes=200_000, max_pixels=80_000_000)
    pack_images(dataset, target, limits, max_failures=0.8, processes=1)
    failures = pd.read_csv(target / "failures.csv")
    assert failures.set_index("id")["reason"].to_dict() == {
        "truncated": "truncated",
        "empty": "empty",
        "gone": "missing",
        "text": "not a JPEG, PNG, WebP or TIFF image",
        "bomb": "too large (pixels)",
        "heavy": "too large (bytes)",
        "changed": "hash differs",
        "e": "not allowed host",
    }
    assert failures["id"].tolist() == [*(name for name in names if not name.startswith("photo")), "e"]
    images = PackedImages(target)
    assert images.index["id"].tolist() == ["photo-003", "photo-004"]
    assert images.manifest.counts["failures"] == 8
    assert (images.gather(np.array([1]))[0] == decode_image(PHOTOS["photo-004"], 16)).all()


def test_too_many_failures_are_told_and_only_they_are_tried_again(
    container: str, small_shards: None, tmp_path: Path
) -> None:
    extra = {f"late-{number}": PHOTOS[f"photo-{number:03d}"] for number in range(3)}
    names = list(PHOTOS)[:40]
    names[5:5], names[20:20] = ["late-0"], ["late-1", "late-2"]
    dataset, target = table(container, names, PHOTOS | extra), tmp_path / "images"
    with pytest.raises(SparsightError) as caught:
        pack_images(dataset, target, Packing(size=16), processes=1)
    listed = tmp_path / "images.partial" / "failures.csv"
    assert caught.value.problem == (
        f"3 of 43 images failed (3 missing); max_failures 0.01 allows 0. The list is {listed}."
    )
    assert pd.read_csv(listed)["id"].tolist() == ["late-0", "late-1", "late-2"]
    assert not target.exists()
    upload(container, extra)
    with gate(os.environ["SPARSIGHT_BLOB_ENDPOINT"]) as (counted, url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_BLOB_ENDPOINT", url)
        pack_images(dataset, target, Packing(size=16), processes=1)
        assert counted.opened <= 3
    pack_images(dataset, tmp_path / "whole", Packing(size=16), processes=2)
    assert contents(target) == contents(tmp_path / "whole")


def test_killed_and_resumed_ends_in_the_same_bytes(container: str, tmp_path: Path) -> None:
    names = list(PHOTOS)
    dataset = table(container, [*names[:30], "gone", *names[30:], *names[:9]])
    folder = write_dataset(tmp_path / "dataset", dataset)
    assert finish(start(folder, tmp_path / "whole"))[0] == 0
    process = start(folder, tmp_path / "images", concurrency=2)
    records = tmp_path / "images.partial" / ".work"
    while len(list(records.glob("*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.002)
    helpers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    finish(process)
    assert not (tmp_path / "images").exists()
    assert not psutil.wait_procs(helpers, timeout=10)[1]
    whole_shards = [int(path.stem) for path in records.glob("*.json") if path.read_text() == "{}"]
    written = {number: (tmp_path / "images.partial" / shard_name(number)).stat().st_mtime_ns for number in whole_shards}
    assert written
    status, output = finish(start(folder, tmp_path / "images"))
    assert status == 0, output
    assert {number: (tmp_path / "images" / shard_name(number)).stat().st_mtime_ns for number in written} == written
    assert contents(tmp_path / "images") == contents(tmp_path / "whole")


def failing_at(patch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> None:
    """Make a function raise, as a kill would end it, before its nth call."""
    real: Callable[..., Any] = getattr(module, name)
    left = [call]

    def fail(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    patch.setattr(module, name, fail)


def with_gaps(container: str) -> pd.DataFrame:
    """Forty images, and one that is missing in each of the three shards."""
    names = list(PHOTOS)[:40]
    names[3:3], names[22:22], names[38:38] = ["gone-1"], ["gone-2"], ["gone-3"]
    return table(container, names)


@pytest.fixture(scope="module")
def whole(container: str, services: Services, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run makes of them, with other numbers of processes and downloads."""
    folder = tmp_path_factory.mktemp("whole") / "images"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_plan, "SHARD_ROWS", SMALL_SHARDS)
        for name, value in environment(services).items():
            patch.setenv(name, value)
        pack_images(with_gaps(container), folder, Packing(size=8), max_failures=0.1, processes=2, concurrency=3)
    return folder


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (packing_plan, "commit_shard", 1),
        (packing_plan, "close_up", 0),
        (packing_plan, "close_up", 2),
        (packing_plan.pq, "write_table", 0),
        (packing.shutil, "rmtree", 0),
    ],
)
def test_interrupted_anywhere_it_ends_in_the_same_bytes(
    container: str, small_shards: None, whole: Path, tmp_path: Path, module: Any, name: str, call: int
) -> None:
    dataset = with_gaps(container)
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, module, name, call)
        with pytest.raises(KeyboardInterrupt):
            pack_images(dataset, tmp_path / "images", Packing(size=8), max_failures=0.1, processes=1)
    pack_images(dataset, tmp_path / "images", Packing(size=8), max_failures=0.1, processes=1)
    assert contents(tmp_path / "images") == contents(whole)


def test_downloads_at_once_stay_within_concurrency(container: str, tmp_path: Path) -> None:
    with gate(os.environ["SPARSIGHT_BLOB_ENDPOINT"]) as (counted, url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_BLOB_ENDPOINT", url)
        dataset = table(container, list(PHOTOS))
        pack_images(dataset, tmp_path / "images", Packing(size=8), concurrency=5, processes=2)
        assert counted.most == 5


def test_a_store_that_is_gone_is_told_and_nothing_is_lost(
    container: str, small_shards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_UNREACHABLE_AFTER", 4)
    dataset, target = table(container, list(PHOTOS)[:20]), tmp_path / "images"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_BLOB_ENDPOINT", "http://127.0.0.1:9/devstoreaccount1")
        with pytest.raises(SparsightError, match="can't be reached"):
            pack_images(dataset, target, Packing(size=8), processes=1)
    pack_images(dataset, target, Packing(size=8), processes=1)
    assert len(PackedImages(target)) == 20


def test_a_killed_helper_is_told_and_nothing_is_lost(container: str, small_shards: None, tmp_path: Path) -> None:
    dataset, target = table(container, list(PHOTOS)), tmp_path / "images"

    def kill_helper() -> None:
        while not list((tmp_path / "images.partial" / ".work").glob("*.json")):
            time.sleep(0.002)
        helpers = [child for child in psutil.Process().children() if "--multiprocessing-fork" in child.cmdline()]
        helpers[0].kill()

    thread = threading.Thread(target=kill_helper)
    thread.start()
    with pytest.raises(SparsightError, match="ended unexpectedly"):
        pack_images(dataset, target, Packing(size=8), concurrency=2, processes=2)
    thread.join()
    pack_images(dataset, target, Packing(size=8), processes=1)
    assert len(PackedImages(target)) == COUNT


def test_another_dataset_never_goes_on_from_what_an_interrupted_one_left(
    container: str, small_shards: None, tmp_path: Path
) -> None:
    target = tmp_path / "images"
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, packing_plan, "commit_shard", 1)
        with pytest.raises(KeyboardInterrupt):
            pack_images(table(container, list(PHOTOS)[:40]), target, Packing(size=8), processes=1)
    names = list(PHOTOS)[100:140]
    pack_images(table(container, names), target, Packing(size=8), processes=1)
    pixels = PackedImages(target).gather(np.arange(40))
    assert all((one == decode_image(PHOTOS[name], 8)).all() for one, name in zip(pixels, names, strict=True))


def test_the_backbone_decides_the_size_where_none_is_given(container: str, tmp_path: Path) -> None:
    from sparsight.steps.data_prep import Arguments, main

    folder = write_dataset(tmp_path / "dataset", table(container, list(PHOTOS)[:3]))
    main(Arguments(dataset=folder, images=tmp_path / "images", backbone="resnet18"))
    assert PackedImages(tmp_path / "images").size == (224, 224)
