"""The command line over models in a real MLflow: list, show, promote, download; what comes back opens by itself."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from packed_images import write_packed_images
from toy_project import Project

from sparsight.data.artefact import new_artefact
from sparsight.errors import SparsightError
from sparsight.evaluation.promotion import promotion_of
from sparsight.models.backbones import create_backbone
from sparsight.models.classifier import Classifier, Head, load_classifier
from sparsight.models.folder import BackboneDescription, HeadDescription, ModelDescription, Preprocessing, write_model
from sparsight.models.pyfunc import save_pyfunc
from sparsight.stores.lineage import Lineage
from sparsight.stores.models import fetch_model, find_model, register_model

pytestmark = [pytest.mark.usefixtures("service_environment")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of two classes, its weights random."""
    description = ModelDescription(
        kind="classifier",
        backbone=BackboneDescription(name="resnet10_narrow", small_image_stem=True),
        head=HeadDescription(hidden=8, dropout=0.5),
        classes=("cat", "dog"),
        preprocessing=Preprocessing(image_size=16, resize="fit", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
    )
    torch.manual_seed(0)
    backbone = create_backbone(description.backbone)
    network = Classifier(backbone, Head(backbone.num_features, 2, description.head))
    with new_artefact(tmp_path_factory.mktemp("model") / "model", "model", {}) as draft:
        write_model(draft.folder, description, network.state_dict())
        save_pyfunc(draft.folder, description)
    return draft.folder.with_name("model")


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"photos-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return name


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("COLUMNS", "200")
    return Project(tmp_path / "project", capsys)


def register(folder: Path, name: str, macro_f1: float, digest: str = "these") -> str:
    with mlflow.start_run() as run:
        lineage = Lineage(
            kind="classifier",
            backbone="resnet10_narrow",
            step="train_classifier",
            run_id=run.info.run_id,
            pipeline_run="20260101-classify",
            code_version="v7",
            base_model="moco/3",
            dataset_query={"containers": "elpv", "where": "c.width > @width"},
            dataset_counts={"train": 50},
            dataset_digest="0123456789abcdef",
            metrics={"macro_f1": macro_f1},
            test_digest=digest,
            test_images=600,
        )
        return register_model(folder, name, lineage).reference


def test_a_better_one_takes_the_place_and_a_worse_one_does_not(folder: Path, name: str, command: Project) -> None:
    for score in (0.7, 0.8, 0.75):
        register(folder, name, score)
    assert find_model(f"{name}@candidate").number == 3
    assert command("models", "promote", f"{name}/1").code == 0
    better = command("models", "promote", f"{name}/2")
    assert better.code == 0
    assert f"{name}/2 gains 0.1 over {name}/1: macro_f1 0.8000 against 0.7000" in better.out
    assert f"{name}/1 went to the archive." in better.out

    worse = command("models", "promote", f"{name}@latest")
    assert worse.code == 1
    assert worse.out == ""
    assert f"Refused: {name}/3 loses by 0.05 to {name}/2" in worse.err

    assert {stage: find_model(f"{name}@{stage}").number for stage in ("production", "archived", "candidate")} == {
        "production": 2,
        "archived": 1,
        "candidate": 3,
    }
    assert mlflow.MlflowClient().get_model_version_by_alias(name, "production").version == "2"
    record = promotion_of(find_model(f"{name}/2"))
    assert record == {"over": f"{name}/1", "metric": "macro_f1", "gain": 0.1, "test_digest": "these"}


def test_another_test_set_is_refused_until_forced(folder: Path, name: str, command: Project) -> None:
    register(folder, name, 0.7)
    register(folder, name, 0.9, "those")
    command("models", "promote", f"{name}/1")
    refused = command("models", "promote", f"{name}/2")
    assert refused.code == 1
    assert "tested on other images or labels" in refused.err
    assert "--images FOLDER" in refused.err
    forced = command("models", "promote", f"{name}/2", "--force", "the labels were corrected")
    assert forced.code == 0
    shown = command("models", "show", f"{name}@production")
    assert "forced              the labels were corrected" in shown.out
    back = command("models", "promote", f"{name}@archived", "--force", "roll back")
    assert back.code == 0
    assert find_model(f"{name}@production").number == 1


def test_both_are_tested_on_one_images_folder(folder: Path, name: str, command: Project, tmp_path: Path) -> None:
    register(folder, name, 0.7)
    register(folder, name, 0.9, "those")
    command("models", "promote", f"{name}/1")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    images = write_packed_images(tmp_path / "images", pixels, ["cat", "dog", "cat"] * 3, ["train"] * 3 + ["test"] * 6)
    answer = command("models", "promote", f"{name}/2", "--images", str(images))
    assert answer.code == 1
    assert f"{name}/2 is no better than {name}/1" in answer.err  # they are the same weights
    assert "on the same 6 test images" in answer.err
    assert Lineage.of_tags(find_model(f"{name}/2").tags).metrics == {"macro_f1": 0.9}

    larger = write_packed_images(tmp_path / "larger", np.zeros((2, 32, 32, 3), np.uint8), ["cat"] * 2, ["test"] * 2)
    wrong = command("models", "promote", f"{name}/2", "--images", str(larger))
    assert wrong.code == 1
    assert f"holds images of 32 pixels, resize fit; {name}/2 was trained on 16 pixels" in wrong.err


def test_list_and_show_tell_what_is_known(folder: Path, name: str, command: Project) -> None:
    register(folder, name, 0.7)
    register(folder, name, 0.8)
    command("models", "promote", f"{name}/1")
    listed = command("models", "list")
    assert listed.code == 0
    line = next(line for line in listed.out.splitlines() if name in line)
    assert line.split()[:5] == [name, "classifier", f"{name}/2", f"{name}/1", "0.700"]
    versions = command("models", "list", name).out
    assert [word in versions for word in ("candidate", "production", "20260101-classify", "600")] == [True] * 4

    shown = command("models", "show", f"{name}@latest")
    assert shown.out.splitlines()[0] == f"{name}/2: candidate"
    told = " ".join(shown.out.split())
    for text in ("classifier on resnet10_narrow", "base model moco/3", "where c.width > @width", "train 50", "code v7"):
        assert text in told
    assert "macro_f1 0.8000" in told
    assert "test images 600 (these)" in told
    unknown = command("models", "show", f"{name}@champion")
    assert unknown.code == 2
    assert f"it has {name}@latest, {name}@candidate, {name}@production" in unknown.err


OPEN = """
import sys, mlflow.pyfunc, torch
def never(*_, **__):
    raise AssertionError("something was unpickled")
torch.load = never
import pickle
pickle.load = pickle.loads = never
model = mlflow.pyfunc.load_model(sys.argv[1])
from sparsight.models.pyfunc import example_input
print(sorted(model.predict(example_input(16))))
"""


def test_a_download_is_whole_opens_by_itself_and_replaces_nothing(
    folder: Path, name: str, command: Project, tmp_path: Path
) -> None:
    register(folder, name, 0.7)
    answer = command("models", "download", f"{name}@latest")
    assert answer.code == 0, answer.err
    fetched = command.root / "models" / f"{name}-1"
    assert f"models/{name}-1" in answer.out
    assert load_classifier(fetched)[1].classes == ("cat", "dog")
    assert json.loads((fetched / "lineage.json").read_text())["metrics"] == {"macro_f1": 0.7}
    assert not [path for path in fetched.rglob("*") if path.suffix in {".pkl", ".pickle", ".pt", ".pth"}]

    again = command("models", "download", f"{name}@latest")
    assert again.code == 2
    assert "exists already" in again.err
    (tmp_path / "mine").mkdir()
    assert command("models", "download", f"{name}/1", "--into", str(tmp_path / "mine")).code == 2
    assert list((tmp_path / "mine").iterdir()) == []

    opened = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPEN, str(fetched)], capture_output=True, text=True, check=False
    )
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout.strip() == "['label', 'p(cat)', 'p(dog)', 'score']"


def test_an_alias_moved_by_hand_is_believed(folder: Path, name: str) -> None:
    register(folder, name, 0.7)
    register(folder, name, 0.8)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, "production", "1")
    client.set_registered_model_alias(name, "champion", "2")
    assert find_model(f"{name}@production").number == 1
    assert find_model(f"{name}@champion").number == 2
    client.delete_registered_model_alias(name, "production")
    with pytest.raises(SparsightError, match=f"no {name}@production; it has {name}@latest"):
        find_model(f"{name}@production")


def test_a_registry_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch, command: Project) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer = command("models", "list", "--no-services")
    assert answer.code == 2
    assert "Couldn't list the models" in answer.err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "MLFLOW_TRACKING_URI isn't set" in command("models", "list", "--no-services").err


def test_two_who_fetch_to_one_folder_get_one_model(folder: Path, name: str, tmp_path: Path) -> None:
    register(folder, name, 0.7)

    class Slow:
        """A registry during whose download somebody else makes the folder."""

        where = "slow"

        def download(self, version: object, draft: Path) -> None:
            (draft / "manifest.json").write_text("{}")
            (tmp_path / "into").mkdir()
            (tmp_path / "into" / "theirs").touch()

    with pytest.raises(SparsightError, match="exists already"):
        fetch_model(find_model(f"{name}/1"), tmp_path / "into", Slow())  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["theirs"]
    assert not list(tmp_path.glob(".into*"))
