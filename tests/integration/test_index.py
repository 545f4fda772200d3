"""Search from end to end: photos in the stores, a registered model, the pipeline index; then the commands."""

import contextlib
import dataclasses
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from packed_images import write_packed_images
from PIL import Image
from sklearn.datasets import load_digits

from sparsight import cli
from sparsight.data.samples import load_folder
from sparsight.local.records import all_runs
from sparsight.local.services import Services, environment
from sparsight.search import Index
from sparsight.steps import connect_db, data_prep, embed
from sparsight.steps.train_classifier import Arguments as TrainArguments
from sparsight.steps.train_classifier import main as train
from sparsight.stores.models import fetch_model

PIPELINE = Path(__file__).parents[2] / "pipelines" / "index.yml"
MODEL = "search-test"
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"


class Project(NamedTuple):
    """A folder with an index in it, what it was made of, and photos that are in no store."""

    root: Path
    index: Path
    outputs: dict[str, Path]
    other: list[Path]


def execute(root: Path, *words: str, code: int = 0) -> str:
    """Run a command in this process; returns what it printed, or its error."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.raises(SystemExit) as ended,
    ):
        cli.main(root, list(words))
    assert (ended.value.code or 0) == code, out.getvalue() + err.getvalue()
    return err.getvalue() if code else out.getvalue()


def store(file: Path, pixels: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


@pytest.fixture(scope="module", autouse=True)
def stores(services: Services) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(services).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def project(stores: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    data, target = load_digits(return_X_y=True)
    pixels = np.kron(data.reshape(-1, 8, 8) * (255 / 16), np.ones((2, 2))).astype(np.uint8)
    pixels = np.repeat(pixels[..., None], 3, axis=3)
    for number in range(120):
        store(root / "digits-a" / str(target[number]) / f"{number:03d}.png", pixels[number])
    for number in range(120, 140):
        store(root / "digits-b" / str(target[number]) / f"{number:03d}.png", pixels[number])
    for name in ("digits-a", "digits-b"):
        load_folder(root / name, name=name)
    labels = [f"digit/{each}" for each in target[200:600]]
    images = write_packed_images(
        root / "images", pixels[200:600], labels, ["train"] * 280 + ["valid"] * 80 + ["test"] * 40, resize="squash"
    )
    train(
        TrainArguments(
            images=images,
            model=root / "model",
            model_name=MODEL,
            backbone="resnet10_narrow",
            freeze_backbone=False,
            epochs=8,
            augmentation_passes=1,
            horizontal_flip=0,
        )
    )
    settings = {"containers": "digits-a", "model": f"{MODEL}@latest", "bits": "64"}
    execute(root, "run", str(PIPELINE), *(f"--set={name}={value}" for name, value in settings.items()))
    run = next(all_runs(root / "runs")).path
    outputs = {name: run / step / "outputs" / name for step, name in (("photos", "dataset"), ("embed", "embeddings"))}
    other = [store(root / "asked" / f"{number}-{target[number]}.png", pixels[number]) for number in range(600, 606)]
    return Project(root, run / "index" / "outputs" / "index", outputs, other)


def search(project: Project, image: Path, *options: str) -> list[dict[str, Any]]:
    found = execute(
        project.root, "index", "search", str(project.index), str(image), "--json", "--no-services", *options
    )
    rows: list[dict[str, Any]] = json.loads(found)
    return rows


def test_the_pipeline_indexes_what_is_in_the_stores(project: Project) -> None:
    index = Index(project.index)
    assert len(index) == 120
    assert index.description.model == f"{MODEL}/1"
    assert set(index.photos.column("container").to_pylist()) == {"digits-a"}


def test_a_photo_finds_itself_first_and_others_of_its_kind(project: Project) -> None:
    itself = next((project.root / "digits-a").rglob("005.png"))
    found = search(project, itself, "-k", "5")
    assert found[0]["distance"] == 0
    assert found[0]["uri"].startswith("photos/digits-a/")
    assert [each["distance"] for each in found] == sorted(each["distance"] for each in found)
    right = [each["uri"].split("/")[2] == path.stem[-1] for path in project.other for each in search(project, path)]
    assert np.mean(right) > 0.3, "a tenth would be chance"


def test_a_table_for_people(project: Project) -> None:
    text = execute(
        project.root, "index", "search", str(project.index), str(project.other[0]), "-k", "3", "--no-services"
    )
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["distance", "cosine", "id", "label,", "where", "it", "is"]
    assert all("photos/digits-a/" in line for line in lines[1:])


def test_what_is_found_can_be_put_in_order_by_embeddings(project: Project) -> None:
    found = search(project, project.other[1], "-k", "8", "--rerank", str(project.outputs["embeddings"]))
    cosines = [each["cosine_distance"] for each in found]
    assert cosines == sorted(cosines)


def test_documents_are_asked_when_somebody_searches(project: Project) -> None:
    where = ["--where", "ENDSWITH(c.uri_orig, @end)", "--where-parameters", '{"@end": "5.png"}']
    found = search(project, project.other[0], "-k", "100", *where)
    assert len(found) == 12
    assert all(each["uri"].endswith("5.png") for each in found)
    assert search(project, project.other[0], "--where", "c.resolution_width > 5000") == []
    command = ["index", "search", str(project.index), str(project.other[0]), "--no-services"]
    told = execute(project.root, *command, "--where", "c.x = 1; DROP", code=2)
    assert "Write one condition" in told


def test_photos_are_added_and_removed(project: Project, tmp_path: Path) -> None:
    plain = connect_db.Arguments(
        containers="digits-b", mode="all", train_ratio=1, valid_ratio=0, test_ratio=0, dataset=tmp_path / "dataset"
    )
    connect_db.main(plain)
    data_prep.main(
        data_prep.Arguments(dataset=tmp_path / "dataset", images=tmp_path / "images", image_size=16, resize="squash")
    )
    made = embed.Arguments(images=tmp_path / "images", model=f"{MODEL}/1", embeddings=tmp_path / "embeddings")
    embed.main(made)
    new = ["--embeddings", str(tmp_path / "embeddings"), "--dataset", str(tmp_path / "dataset")]
    folder = tmp_path / "index"
    mine = ["--embeddings", str(project.outputs["embeddings"]), "--dataset", str(project.outputs["dataset"])]
    told = execute(project.root, "index", "build", str(folder), *mine, "--code", "itq", "--bits", "32")
    assert "120 photos as codes of 32 bits" in told
    assert execute(project.root, "index", "add", str(folder), *new) == (
        "20 added, 0 replaced, 0 removed: 140 photos now.\n"
    )
    ids = Index(folder).photos.column("id").to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(ids[:3]) + "\n")
    told = execute(project.root, "index", "remove", str(folder), ids[-1], "--file", str(tmp_path / "ids.txt"))
    assert told == "0 added, 0 replaced, 4 removed: 136 photos now.\n"
    assert Index(folder).photos.column("id").to_pylist() == ids[3:-1]
    embed.main(dataclasses.replace(made, model="none", backbone="resnet10_narrow", embeddings=tmp_path / "others"))
    others = ["--embeddings", str(tmp_path / "others"), "--dataset", str(tmp_path / "dataset")]
    assert "which has other weights" in execute(project.root, "index", "add", str(folder), *others, code=2)


def test_a_model_of_other_weights_and_what_is_no_photo_are_refused(project: Project, tmp_path: Path) -> None:
    fetched = fetch_model(f"{MODEL}/1", tmp_path / "same")
    assert search(project, project.other[0], "--model", str(fetched))
    command = ["index", "search", str(project.index), "--no-services"]
    told = execute(project.root, *command, str(project.other[0]), "--model", "none", code=2)
    assert f"The index is of {MODEL}/1; none has other weights" in told
    told = execute(project.root, *command, str(PIPELINE), code=2)
    assert "not a JPEG, PNG, WebP or TIFF image" in told
    told = execute(project.root, *command, str(tmp_path / "nothing.png"), code=2)
    assert "nothing.png can't be read: No such file" in told


@contextlib.contextmanager
def served(project: Project, *options: str) -> Iterator[str]:
    command = [sys.executable, "-u", "-c", ENTRY, str(project.root), "index", "serve", str(project.index)]
    command += ["--port", "0", "--no-services", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address, line
        try:
            yield address[0]
        finally:
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(30) == 0


def test_the_server_answers_with_links_and_pictures(project: Project) -> None:
    with served(project, "--rerank", str(project.outputs["embeddings"])) as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        connection.request("POST", "/api/search?k=4&thumbnails=true", project.other[0].read_bytes())
        answer = json.loads(connection.getresponse().read())
        connection.close()
    assert answer["index"] == {"photos": 120, "model": f"{MODEL}/1", "bits": 64}
    assert len(answer["neighbours"]) == 4
    first = answer["neighbours"][0]
    assert first["cosine_distance"] >= 0
    assert first["thumbnail"].startswith("data:image/jpeg;base64,")
    with urllib.request.urlopen(first["url"], timeout=60) as response:
        assert response.read().startswith(b"\x89PNG")
