"""Label quality on its whole way: from photos in the stores to what people are asked to look at again, and back."""

import asyncio
import dataclasses
import json
import uuid
from pathlib import Path

import pandas as pd
import pytest

from sparsight.cli import main as command_line
from sparsight.data.annotations import read_annotations
from sparsight.data.artefact import read_manifest
from sparsight.data.dataset import read_photos
from sparsight.data.samples import load_digits
from sparsight.data.sync.request import SyncRequest
from sparsight.data.taxonomy import Taxonomy
from sparsight.errors import SparsightError
from sparsight.evaluation.label_quality import Quality, read_quality
from sparsight.local.services import Services
from sparsight.steps import connect_db, data_prep, embed, label_quality, push_tasks
from sparsight.stores.annotations import open_annotations
from sparsight.stores.metadata import open_metadata

DIGITS = "nodes:\n" + "".join(f"  digit/{number}:\n" for number in range(10)).replace(
    "  digit/0", "  digit:\n  digit/0"
)


@pytest.fixture(autouse=True)
def photos(service_environment: Services, monkeypatch: pytest.MonkeyPatch) -> str:
    """Some digits in a database of this test's own; gives its name."""
    name = f"quality-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("SPARSIGHT_COSMOS_DATABASE", name)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    load_digits(limit=260, labelled=200, test=40)
    return name


def prepare(folder: Path) -> label_quality.Arguments:
    """Make a dataset and its embeddings; gives the step's arguments."""
    folder.mkdir()
    connect_db.main(connect_db.Arguments(containers="digits", dataset=folder / "dataset"))
    data_prep.main(data_prep.Arguments(dataset=folder / "dataset", images=folder / "images", image_size=28))
    embed.main(
        embed.Arguments(
            images=folder / "images", model="none", backbone="resnet10_narrow", embeddings=folder / "embeddings"
        )
    )
    return label_quality.Arguments(
        dataset=folder / "dataset",
        embeddings=folder / "embeddings",
        quality=folder / "quality",
        review=folder / "review",
        review_limit=20,
    )


def measured(arguments: label_quality.Arguments) -> Quality:
    label_quality.main(arguments)
    return read_quality(arguments.quality / "quality.json")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def document(photo: str) -> dict:
    async def read() -> dict:
        async with open_metadata() as store:
            [found] = await store.query("digits", "SELECT * FROM c WHERE c.id = @id", {"@id": photo})
            return found

    return asyncio.run(read())


def test_disagreements_are_found_sent_to_people_and_settled_by_what_they_say(
    labelling_environment: Services, photos: str, tmp_path: Path
) -> None:
    arguments = prepare(tmp_path / "first")
    quality = measured(arguments)
    assert 0.75 < quality.alpha().alpha < 0.99  # simulated annotators err in 5 % of cases
    assert quality.annotators == 3
    assert quality.unsettled > 0
    assert quality.suspects is not None
    assert quality.suspects.accuracy > 0.4
    assert quality.measured == quality.photos - quality.reviewed
    page = (arguments.quality / "index.html").read_text()
    assert page.count("data:image/png") > 3 + quality.unsettled
    assert '<div class="missing">' not in page

    selected = pd.read_csv(arguments.review / "selected.csv")
    differing = pd.read_csv(arguments.quality / "disagreements.csv", keep_default_na=False)
    unsettled = differing[differing["label"] == ""]
    assert selected["id"][0] == differing["id"][0] == unsettled["id"][0]
    assert unsettled["id"][0] not in set(read_photos(arguments.dataset)["id"])
    photo, said = next(
        (row.id, json.loads(row.said)) for row in unsettled.itertuples() if row.annotators == 2
    )  # a third one decides
    assert read_manifest(arguments.review, "selection").counts["photos"] == len(selected) == 20

    taxonomy = tmp_path / "digits.yml"
    taxonomy.write_text(DIGITS)
    title = f"Review {photos}"
    pushed = push_tasks.Arguments(
        selection=arguments.review, taxonomy=taxonomy, project=title, tasks=tmp_path / "tasks"
    )
    push_tasks.main(pushed)
    with open_annotations() as store:
        project = store.project(title)
        tasks = {task.data["id"]: task.id for task in store.tasks(project)}
        assert list(tasks) == selected["id"].tolist()
        name = next(iter(said.values()))[0]
        result = {"from_name": "taxonomy", "to_name": "image", "type": "taxonomy"}
        store._client.annotations.create(tasks[photo], result=[{**result, "value": {"taxonomy": [name.split("/")]}}])
    SyncRequest(project=title, containers="digits", taxonomy=taxonomy).run()
    assert Taxonomy.read(taxonomy).resolve(tuple(name.split("/"))) is not None
    assert document(photo)["total_annotations"] == len(said) + 1

    again = measured(prepare(tmp_path / "second"))
    assert again.unsettled == quality.unsettled - 1
    assert again.annotators == 4


def test_the_same_inputs_give_the_same_bytes_and_a_finished_result_is_kept(tmp_path: Path) -> None:
    arguments = prepare(tmp_path / "work")
    measured(arguments)
    other = dataclasses.replace(arguments, quality=tmp_path / "quality", review=tmp_path / "review")
    measured(other)
    assert contents(arguments.quality) == contents(other.quality)
    assert contents(arguments.review) == contents(other.review)
    before = (arguments.quality / "index.html").stat().st_mtime_ns
    measured(arguments)
    assert (arguments.quality / "index.html").stat().st_mtime_ns == before


def test_embeddings_of_other_photos_are_refused(tmp_path: Path) -> None:
    arguments = prepare(tmp_path / "work")
    connect_db.main(connect_db.Arguments(containers="digits", limit=50, dataset=tmp_path / "other"))
    with pytest.raises(SparsightError, match="holds embeddings of other photos or labels than"):
        label_quality.main(dataclasses.replace(arguments, dataset=tmp_path / "other"))
    assert not arguments.quality.exists()
    assert len(read_annotations(tmp_path / "other")) == len(read_annotations(arguments.dataset))


def test_the_command_line_tells_agreement_from_the_documents_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line(tmp_path, ["labels", "quality", "--containers", "digits", "--no-services"])
    assert not ended.value.code
    told = capsys.readouterr().out
    for text in ("Krippendorff's alpha, 95 % interval", "simulated-2", "photos with different labels", "note: "):
        assert text in told
    assert told.endswith("python execute.py run label_quality --set containers=digits --set taxonomy_level=0\n")
    with pytest.raises(SystemExit) as ended:
        command_line(tmp_path, ["labels", "quality", "--containers", "digits", "--level", "3", "--no-services"])
    assert ended.value.code == 2
    assert "No label reaches level 3 of the taxonomy" in capsys.readouterr().err
