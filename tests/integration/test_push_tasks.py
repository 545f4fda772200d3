"""The step push_tasks against the real Label Studio and Azurite: each photo once, pre-annotated, its address alive."""

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparsight.cli import main as command_line
from sparsight.data.artefact import read_manifest
from sparsight.errors import SparsightError
from sparsight.local.services import Services
from sparsight.steps.push_tasks import Arguments, main
from sparsight.stores.annotations import AnnotationStore, open_annotations
from sparsight.stores.image_urls import expiry_of
from tests.labelling import TAXONOMY, photo, upload, uri, write_dataset, write_predictions, write_selection

IDS = ["a", "b", "c", "d"]
Push = Callable[..., pd.DataFrame]


@pytest.fixture
def store(labelling_environment: Services) -> Iterator[AnnotationStore]:
    with open_annotations() as opened:
        yield opened


@pytest.fixture
def push(labelling_environment: Services, tmp_path: Path) -> Push:
    """Run the step with artefacts of these photos, of which some are chosen and some predicted; read what it wrote."""
    upload("pushed", IDS)
    write_dataset(tmp_path / "dataset", "pushed", IDS)
    (tmp_path / "taxonomy.yml").write_text(TAXONOMY)
    runs: list[Path] = []

    def run(chosen: list[str], labels: Mapping[str, str] | None = None, version: str = "", **more: Any) -> pd.DataFrame:
        folder = tmp_path / str(len(runs))
        runs.append(folder)
        folder.mkdir()
        arguments = {
            "selection": write_selection(folder / "selection", chosen),
            "predictions": None if labels is None else write_predictions(folder / "predictions", version, labels),
            "taxonomy": tmp_path / "taxonomy.yml",
            **more,
        }
        main(Arguments(dataset=tmp_path / "dataset", tasks=folder / "tasks", **arguments))
        read_manifest(folder / "tasks", "tasks")
        return pd.read_csv(folder / "tasks" / "tasks.csv")

    return run


def predictions(store: AnnotationStore, project: str) -> dict[str, list[tuple[str, list[str]]]]:
    """For each photo its predictions: model version and label."""
    number = store.project(project).id
    photos = {task.id: str(task.data["id"]) for task in store.tasks(store.project(project))}
    found: dict[str, list[tuple[str, list[str]]]] = {name: [] for name in photos.values()}
    for each in store._client.predictions.list(project=number):
        [result] = each.result
        found[photos[each.task]].append((str(each.model_version), result["value"]["taxonomy"][0]))
    return found


def test_photos_become_tasks_once_in_the_selections_order(push: Push, store: AnnotationStore) -> None:
    first = push(["c", "a"], project="Pushed once")
    second = push(["b", "c", "a"], project="Pushed once", overlap=3)
    assert first["state"].tolist() == ["new", "new"]
    assert second[["id", "container", "state"]].to_numpy().tolist() == [
        ["b", "cells", "new"],
        ["c", "cells", "known"],
        ["a", "cells", "known"],
    ]
    assert set(first["task"]) < set(second["task"])
    project = store.project("Pushed once")
    tasks = list(store.tasks(project))
    assert [task.data["id"] for task in tasks] == ["c", "a", "b"]
    assert {task.id: task.data["id"] for task in tasks} == dict(second[["task", "id"]].to_numpy())
    assert {frozenset(task.data) for task in tasks} == {frozenset({"image", "id", "container"})}
    assert project.overlap == 3


def test_a_browser_gets_the_photo_by_its_address_alone(push: Push, store: AnnotationStore) -> None:
    push(["b"], project="Addresses", valid_hours=2)
    [task] = store.tasks(store.project("Addresses"))
    request = urllib.request.Request(task.data["image"], headers={"Origin": "http://labels.example"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.read() == photo(1)
        assert answer.headers["Access-Control-Allow-Origin"] in {"*", "http://labels.example"}
        assert answer.headers["Content-Type"] == "image/png"
    expiry = expiry_of(task.data["image"])
    assert expiry is not None
    assert timedelta(hours=1.9) < expiry - datetime.now(UTC) <= timedelta(hours=2)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(task.data["image"].replace("%20b.png", "%20a.png"), timeout=30)


def test_labels_of_a_model_are_shown_and_those_of_a_newer_one_added(
    push: Push, store: AnnotationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    push(["a", "b"], {"a": "cell/whole", "b": "", "d": "cell/whole"}, "cells:1", project="Models")
    assert predictions(store, "Models") == {"a": [("cells:1", ["cell", "whole"])], "b": []}
    again = {"a": "cell/cracked", "b": "cell", "c": "tree/oak", "d": "nothing"}
    push(IDS, again, "cells:2", project="Models")
    push(IDS, again, "cells:2", project="Models")
    assert predictions(store, "Models") == {
        "a": [("cells:1", ["cell", "whole"]), ("cells:2", ["cell", "broken"])],  # cracked is retired
        "b": [("cells:2", ["cell"])],
        "c": [],
        "d": [("cells:2", ["nothing"])],
    }
    assert store._client.projects.get(store.project("Models").id).model_version == "cells:2"
    told = capsys.readouterr().out
    assert "warning: tree/oak, the model's label of 1 photos, isn't offered by the labelling interface" in told
    assert "2 new tasks, 2 were there; 3 pre-annotated" in told
    assert "0 new tasks, 4 were there; 0 pre-annotated" in told


def test_addresses_are_renewed_before_they_expire_where_somebody_still_has_to_look(
    push: Push, store: AnnotationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    push(["a", "b", "c"], project="Renewed", valid_hours=1)
    project = store.project("Renewed")
    before = {task.id: task.data["image"] for task in store.tasks(project)}
    done = next(iter(before))
    value = {"taxonomy": [["cell", "whole"]]}
    result = [{"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": value}]
    store._client.annotations.create(str(done), result=result)

    push(["a"], project="Renewed", valid_hours=1.5)  # an hour is more than half of it
    assert {task.id: task.data["image"] for task in store.tasks(project)} == before
    push(["a"], project="Renewed")
    after = {task.id: task.data["image"] for task in store.tasks(project)}
    assert {number for number in before if after[number] != before[number]} == set(before) - {done}
    with urllib.request.urlopen(after[max(after)], timeout=30) as answer:
        assert answer.read() == photo(2)
    assert "2 photos got a new address" in capsys.readouterr().out

    command = ["labels", "renew", "Renewed", "--no-services"]
    for options, renewed in ((["--all"], 1), (["--all"], 0), ([], 0)):
        with pytest.raises(SystemExit) as ended:
            command_line(Path.cwd(), [*command, *options])
        assert not ended.value.code
        assert f"Renewed: {renewed} photos got a new address" in capsys.readouterr().out
    [exported] = [each for each in store.export(project) if each["id"] == done]
    assert len(exported["annotations"]) == 1


def test_a_project_made_by_hand_is_taken_as_it_is(push: Push, store: AnnotationStore) -> None:
    config = """<View><Image name="picture" value="$image"/><Taxonomy name="what" toName="picture">
    <Choice value="Zelle" alias="cell"><Choice value="Heil" alias="whole"/></Choice></Taxonomy></View>"""
    made = store.ensure_project("By hand", config, 2)
    push(["a"], {"a": "cell/whole"}, "cells:1", project="By hand", taxonomy=None)
    assert store.project("By hand") == made
    [prediction] = store._client.predictions.list(project=made.id)
    assert (prediction.result[0]["from_name"], prediction.result[0]["to_name"]) == ("what", "picture")


def test_the_same_inputs_give_the_same_bytes(push: Push, tmp_path: Path) -> None:
    for _ in range(3):
        push(["a", "b"], {"a": "cell"}, "cells:1", project="Same bytes")
    one, two = tmp_path / "1" / "tasks", tmp_path / "2" / "tasks"
    assert sorted(path.name for path in one.iterdir()) == ["manifest.json", "tasks.csv"]
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()
    assert "sig=" not in (one / "tasks.csv").read_text()
    assert json.loads((one / "manifest.json").read_text())["counts"] == {"new": 0, "pre_annotated": 0, "tasks": 2}


def test_mistakes_are_told_before_anything_is_sent(push: Push, store: AnnotationStore, tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=r"lacks 1 of the 2 photos in .*: x\."):
        push(["a", "x"], project="Mistakes")
    with pytest.raises(SparsightError, match=r"doesn't say which model made it"):
        push(["a"], {"a": "cell"}, "", project="Mistakes")
    with pytest.raises(SparsightError, match="valid for up to 168 hours, not 200"):
        push(["a"], project="Mistakes", valid_hours=200)
    with pytest.raises(SparsightError, match="No node has a name in 'fr'"):
        push(["a"], project="Mistakes", language="fr")
    with pytest.raises(SparsightError, match="has no project 'Mistakes'"):
        push(["a"], project="Mistakes", taxonomy=None)
    assert not list(tmp_path.glob("*/tasks/manifest.json"))
    assert "Mistakes" not in [project.title for project in store.projects()]


def test_a_photo_of_another_account_is_refused(push: Push, store: AnnotationStore, tmp_path: Path) -> None:
    table = pd.read_csv(tmp_path / "dataset" / "train.csv", dtype=str)
    table["uri"] = table["uri"].replace(uri("pushed", "a"), "https://elsewhere.example/pushed/a.png")
    table.to_csv(tmp_path / "dataset" / "train.csv", index=False)
    with pytest.raises(SparsightError, match=r"elsewhere\.example/pushed/a\.png: not allowed host"):
        push(["b", "a"], project="Elsewhere")
    assert list(store.tasks(store.project("Elsewhere"))) == []
