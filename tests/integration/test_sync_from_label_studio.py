"""Labels on their whole way: people annotate in the real Label Studio, and a dataset is made of what they said."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from exports import entries

from sparsight.data.dataset import read_dataset
from sparsight.data.sync.report import SyncReport
from sparsight.data.sync.request import SyncRequest
from sparsight.data.taxonomy import Taxonomy
from sparsight.local.services import Services
from sparsight.steps.connect_db import Arguments as ConnectArguments
from sparsight.steps.connect_db import main as connect_db
from sparsight.stores.annotations import AnnotationStore, Project, open_annotations
from sparsight.stores.metadata import open_metadata

ROOT = Path(__file__).parents[2]
TAXONOMY = """\
nodes:
  cell:
  cell/whole: {names: {de: Heil}}
  cell/broken:
  nothing: {reject: true}
retired:
  cell/cracked: cell/broken
"""
PHOTOS = ["both", "argued", "single", "nobody"]


class Labelling:
    """A project of its own, a container of its own, and people who annotate through the API."""

    def __init__(self, store: AnnotationStore, title: str, folder: Path) -> None:
        self.store, self.title, self.folder = store, title, folder
        self.client = store._client
        self.taxonomy = folder / "taxonomy.yml"
        self.taxonomy.write_text(TAXONOMY)
        self.people = {name: self.person(name) for name in ("ann", "ben", "cat")}
        self.project = self.make()

    def email(self, name: str) -> str:
        return f"{name}-{self.title}@example.org"

    def person(self, name: str) -> int:
        made = self.client.users.create(email=self.email(name), username=self.email(name), first_name=name)
        return int(made.id)

    def make(self) -> Project:
        return self.store.ensure_project(self.title, Taxonomy.read(self.taxonomy).label_config("de"), overlap=3)

    def add(self, photos: Sequence[str], annotations: dict[str, list[dict[str, Any]]] | None = None) -> None:
        tasks = [
            {
                "data": {"image": f"http://127.0.0.1/{photo}?sig=x", "id": photo, "container": self.title},
                "annotations": (annotations or {}).get(photo, []),
            }
            for photo in photos
        ]
        made: Any = self.client.projects.import_tasks(self.project.id, request=tasks, return_task_ids=True)
        self.tasks = dict(zip(photos, made.task_ids, strict=True))

    def annotate(self, photo: str, name: str, *labels: str, **fields: Any) -> int:
        made = self.client.annotations.create(
            self.tasks[photo], result=results(*labels), completed_by=self.people[name], **fields
        )
        return int(made.id)

    def sync(self, **inputs: Any) -> SyncReport:
        return SyncRequest(
            project=self.title, containers=self.title, **{"annotators": "email", "taxonomy": self.taxonomy, **inputs}
        ).run()

    def documents(self) -> dict[str, dict[str, Any]]:
        async def read() -> list[dict[str, Any]]:
            async with open_metadata() as store:
                return await store.query(self.title, "SELECT * FROM c")

        return {document["id"]: document for document in asyncio.run(read())}

    def said(self, photo: str) -> dict[str, list[str]]:
        return entries(self.documents()[photo])

    def dataset(self, **inputs: Any) -> set[str]:
        folder = self.folder / uuid.uuid4().hex
        connect_db(ConnectArguments(dataset=folder, containers=self.title, taxonomy=self.taxonomy, **inputs))
        return set(read_dataset(folder)["id"])


def results(*labels: str) -> list[dict[str, Any]]:
    return [
        {"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [label.split("/")]}}
        for label in labels
    ]


@pytest.fixture
def labelling(labelling_environment: Services, tmp_path: Path) -> Iterator[Labelling]:
    title = f"sync-{uuid.uuid4().hex[:12]}"

    async def put() -> None:
        async with open_metadata() as store:
            await store.ensure_container(title)
            for photo in PHOTOS:
                await store.upsert(title, {"id": photo, "uri_orig": f"photos/{photo}.png"})

    asyncio.run(put())
    with open_annotations() as store:
        labelling = Labelling(store, title, tmp_path)
        labelling.add(PHOTOS)
        yield labelling


def test_what_three_people_say_reaches_the_dataset(labelling: Labelling) -> None:
    ann, ben, cat = map(labelling.email, ("ann", "ben", "cat"))
    labelling.annotate("both", "ann", "cell/whole")
    labelling.annotate("both", "ben", "cell/whole")
    first = labelling.annotate("argued", "ann", "cell/cracked")
    labelling.annotate("argued", "ben", "cell/whole")
    review = labelling.annotate("argued", "cat", "cell/broken", "nothing")
    labelling.annotate("single", "ann", "cell/whole", was_cancelled=True)
    labelling.annotate("single", "ben")
    cell = labelling.annotate("single", "cat", "cell")

    report = labelling.sync(reviewers=cat)
    assert (report.tasks, report.annotations, report.taken, report.changed) == (4, 8, 6, 3)
    assert labelling.said("both") == {ann: ["cell/whole"], ben: ["cell/whole"]}
    assert labelling.said("argued") == {ann: ["cell/broken"], ben: ["cell/whole"], cat: ["cell/broken", "nothing"]}
    assert labelling.said("single") == {cat: ["cell"]}
    assert labelling.documents()["both"]["total_annotations"] == 2
    assert labelling.dataset(min_annotators=2) == {"both", "argued"}
    assert labelling.dataset(require_review=True) == {"argued", "single"}
    assert labelling.sync(reviewers=cat).changed == 0

    labelling.client.annotations.update(first, result=results("nothing"))
    labelling.client.annotations.delete(review)
    assert labelling.sync(reviewers=cat).changed == 1
    assert labelling.said("argued") == {ann: ["nothing"], ben: ["cell/whole"]}
    labelling.client.annotations.update(cell, was_cancelled=True)
    assert labelling.sync(reviewers=cat).cleared == 1
    assert labelling.documents()["single"]["has_imagerecognition_labels"] is False


def test_the_export_that_people_download_says_the_same(labelling: Labelling) -> None:
    """It has numbers where the snapshot has people, so their addresses come from another file."""
    labelling.annotate("both", "ann", "cell/whole")
    labelling.annotate("argued", "ben", "cell/broken")
    assert labelling.sync().changed == 2
    export, users = labelling.folder / "export.json", labelling.folder / "users.json"
    key = {"Authorization": f"Token {os.environ['SPARSIGHT_LABEL_STUDIO_TOKEN']}"}
    with httpx.Client(base_url=labelling.store.url, headers=key, timeout=60) as http:
        answer = http.get(f"/api/projects/{labelling.project.id}/export", params={"exportType": "JSON"})
        export.write_bytes(answer.content)
        users.write_bytes(http.get("/api/users/").content)
    assert isinstance(json.loads(export.read_text())[0]["annotations"][0]["completed_by"], int)
    report = labelling.sync(export=export, users=users)
    assert (report.annotations, report.changed) == (2, 0)


def test_a_project_set_up_anew_changes_nothing(labelling: Labelling) -> None:
    """Label Studio's numbers are others then."""
    labelling.annotate("both", "ann", "cell/whole")
    labelling.annotate("both", "ben", "cell/broken")
    labelling.sync(annotators="hashed")
    before = labelling.documents()
    labelling.client.projects.delete(labelling.project.id)
    labelling.project = labelling.make()
    again = [
        {"result": results(label), "completed_by": labelling.people[name], "ground_truth": False}
        for name, label in (("ann", "cell/whole"), ("ben", "cell/broken"))
    ]
    labelling.add(["both"], {"both": again})
    report = labelling.sync(annotators="hashed")
    assert (report.taken, report.changed) == (2, 0)
    assert labelling.documents() == before


@contextlib.contextmanager
def listener(labelling: Labelling) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(ROOT / "execute.py"), "labels", "listen", labelling.title]
    options = ["--containers", labelling.title, "--annotators", "email", "--port", "0", "--no-services"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_who_listens_hears_of_annotations(labelling: Labelling) -> None:
    def hooks() -> int:
        return len(labelling.client.webhooks.list(project=str(labelling.project.id)))

    with listener(labelling) as process:
        assert process.stdout
        heard = iter(process.stdout.readline, "")
        assert next(line for line in heard if line.startswith("Listening at http://127.0.0.1:"))
        assert hooks() == 1
        assert "0 documents changed" in next(line for line in heard if "documents changed" in line)
        labelling.annotate("both", "ann", "cell/whole")
        assert "1 documents changed" in next(line for line in heard if "documents changed" in line)
        assert labelling.said("both") == {labelling.email("ann"): ["cell/whole"]}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert hooks() == 0
