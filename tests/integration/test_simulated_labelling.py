"""Simulated annotators in the real Label Studio: who labels what, how often, and what the status says of it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparsight.cli import app
from sparsight.data.annotators import SimulatedAnnotator
from sparsight.data.labelling.queue import Queue
from sparsight.data.labelling.simulation import annotate_tasks
from sparsight.data.taxonomy import derive_taxonomy
from sparsight.errors import SparsightError
from sparsight.local.services import Services
from sparsight.stores.annotations import AnnotationStore, Project, open_annotations

LABELS = [("cell", "whole"), ("cell", "broken"), ("nothing",)]
TRUTHS = {f"photo-{number}": LABELS[number % 3] for number in range(12)}


def project_of(store: AnnotationStore, title: str, *, overlap: int) -> Project:
    config = derive_taxonomy(dict.fromkeys(LABELS, 1)).label_config()
    project = store.ensure_project(title, config, overlap=overlap)
    photos = [*TRUTHS, "stranger"]
    tasks = [{"image": f"http://127.0.0.1/{photo}", "id": photo, "container": "cells"} for photo in photos]
    assert len(list(store.add_tasks(project, tasks))) == 13
    return project


def annotators(error_rate: float = 0.0) -> list[SimulatedAnnotator]:
    return [
        SimulatedAnnotator(name=f"annotator-{number}", labels=LABELS, error_rate=error_rate, cost=0.25)
        for number in (1, 2, 3)
    ]


@pytest.mark.usefixtures("labelling_environment")
def test_each_task_gets_as_many_opinions_as_it_should_and_no_more() -> None:
    with open_annotations() as store:
        project = project_of(store, "simulated queue", overlap=2)
        first = annotate_tasks(store, project, annotators(), TRUTHS, limit=5)
        assert (first.tasks, first.annotations, first.wrong, first.cost, first.unknown) == (5, 10, 0, 2.5, 1)
        assert str(Queue.of(store.tasks(project))) == "13 tasks: 5 done, 0 begun, 8 waiting; 10 annotations"
        assert annotate_tasks(store, project, annotators(), TRUTHS).tasks == 7
        assert annotate_tasks(store, project, annotators(), TRUTHS).annotations == 0
        emails = store.users()
        for task in store.export(project):
            people = {each["completed_by"] for each in task["annotations"]}
            photo = task["data"]["id"]
            assert len(people) == (0 if photo == "stranger" else 2)
            assert all(emails[person].endswith("@simulated.invalid") for person in people)
            said = [each["result"][0]["value"]["taxonomy"] for each in task["annotations"]]
            assert all(labels == [list(TRUTHS[photo])] for labels in said)


@pytest.mark.usefixtures("labelling_environment")
def test_one_annotator_leaves_tasks_begun_and_errs_as_told() -> None:
    with open_annotations() as store:
        project = project_of(store, "simulated errors", overlap=2)
        work = annotate_tasks(store, project, annotators(error_rate=1.0)[:1], TRUTHS)
        assert (work.annotations, work.wrong) == (12, 12)
        queue = Queue.of(store.tasks(project))
        assert (queue.done, queue.begun, queue.waiting, queue.annotations) == (0, 12, 1, 12)


@pytest.mark.usefixtures("labelling_environment")
def test_labels_that_are_not_offered_and_servers_elsewhere_are_refused() -> None:
    stranger = SimulatedAnnotator(name="annotator-1", labels=[("moon",)])
    with open_annotations() as store:
        project = project_of(store, "simulated strangers", overlap=1)
        with pytest.raises(SparsightError, match="doesn't offer moon"):
            annotate_tasks(store, project, [stranger], TRUTHS)
        elsewhere = AnnotationStore(store._client, "https://labels.example.org")
        with pytest.raises(SparsightError, match="isn't on this machine"):
            annotate_tasks(elsewhere, project, annotators(), TRUTHS)


def test_the_command_line_simulates_and_tells(labelling_environment: Services, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("id,label\n" + "".join(f"{photo},{'/'.join(path)}\n" for photo, path in TRUTHS.items()))
    with open_annotations() as store:
        project_of(store, "simulated by command", overlap=1)
    command = ["labels", "simulate", "simulated by command", "--truth", str(truth), "--error-rate", "0"]
    done = CliRunner().invoke(app, [*command, "--limit", "4", "--cost", "0.5", "--no-services"])
    assert done.exit_code == 0, done.output
    assert "4 annotations of 4 tasks, 0 of them wrong, for 2.00; 1 open without a known truth" in done.output
    told = CliRunner().invoke(app, ["labels", "status", "simulated by command", "--model", "none-yet", "--no-services"])
    assert told.exit_code == 0, told.output
    assert "13 tasks: 4 done, 0 begun, 9 waiting; 4 annotations" in told.output
    assert "none-yet: no version yet" in told.output


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "neither a file nor one of elpv, digits"), ("id,name\na,b\n", "expected id and label")],
)
def test_a_truth_that_is_none_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "truth.csv"
    if content is not None:
        file.write_text(content)
    done = CliRunner().invoke(app, ["labels", "simulate", "cells", "--truth", str(file), "--no-services"])
    assert isinstance(done.exception, SparsightError)
    assert message in str(done.exception)
