"""Labelling projects in the real Label Studio: made, changed, filled, exported whole; and what goes wrong."""

import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sparsight.errors import SparsightError
from sparsight.local.services import Service, Services, environment
from sparsight.stores import annotations
from sparsight.stores.annotations import AnnotationStore, Project, open_annotations
from sparsight.stores.settings import LabelStudioSettings
from tests.gate import gate

CONFIG = """<View><Image name="image" value="$image"/><Taxonomy name="taxonomy" toName="image">
<Choice value="cell"><Choice value="whole"/><Choice value="broken"/></Choice></Taxonomy></View>"""


@pytest.fixture(scope="module")
def settings(label_studio: Service) -> LabelStudioSettings:
    services = Services(label_studio.data.parent, {"label-studio": label_studio})
    return LabelStudioSettings.from_environment(environment(services))


@pytest.fixture(scope="module")
def store(settings: LabelStudioSettings) -> Iterator[AnnotationStore]:
    with open_annotations(settings) as opened:
        yield opened


def result(*path: str) -> list[dict[str, Any]]:
    value = {"taxonomy": [list(path)]}
    return [{"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": value}]


def data(number: int, **more: Any) -> dict[str, Any]:
    return {"image": f"http://127.0.0.1/{number}", "id": f"p{number}", "container": "cells", **more}


def by_photo(store: AnnotationStore, project: Project) -> dict[str, dict[str, Any]]:
    return {each["data"]["id"]: each for each in store.export(project)}


def test_a_project_is_made_once_and_changed_where_it_differs(store: AnnotationStore) -> None:
    made = store.ensure_project("Made once", CONFIG, 2)
    assert (made.title, made.overlap) == ("Made once", 2)
    assert store.ensure_project("Made once", CONFIG.replace("\n", " \n  "), 2) == made
    assert store.ensure_project("Made once") == store.project("Made once") == made
    changed = store.ensure_project("Made once", CONFIG.replace("broken", "cracked"), 3)
    assert (changed.id, changed.overlap) == (made.id, 3)
    assert "cracked" in changed.label_config
    assert [each.title for each in store.projects()].count("Made once") == 1


def test_labels_in_use_can_go_but_not_the_control_they_were_given_with(store: AnnotationStore) -> None:
    project = store.ensure_project("In use", CONFIG)
    [number] = store.add_tasks(project, [data(1)])
    store._client.annotations.create(str(number), result=result("cell", "broken"))
    store.ensure_project("In use", CONFIG.replace('<Choice value="broken"/>', ""))
    assert by_photo(store, project)["p1"]["annotations"][0]["result"][0]["value"] == {"taxonomy": [["cell", "broken"]]}
    with pytest.raises(SparsightError, match="refuses to change project 'In use': HTTP 400") as caught:
        store.ensure_project("In use", CONFIG.replace('name="taxonomy"', 'name="other"'))
    assert "taxonomy" in caught.value.problem


def test_tasks_keep_their_order_and_get_predictions(store: AnnotationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotations, "PAGE", 7)
    project = store.ensure_project("In order", CONFIG)
    numbers = list(store.add_tasks(project, (data(number) for number in range(20))))
    assert [(each.id, each.data["id"]) for each in store.tasks(project)] == [
        (number, f"p{place}") for place, number in enumerate(numbers)
    ]
    guess = {"model_version": "cells:3", "score": 0.5, "result": result("cell", "whole")}
    assert store.add_predictions(project, ({"task": number, **guess} for number in numbers[:9])) == 9
    versions = [each.model_versions for each in store.tasks(project)]
    assert versions == [frozenset({"cells:3"})] * 9 + [frozenset()] * 11
    store.show_predictions(project, "cells:3")
    assert store._client.projects.get(project.id).model_version == "cells:3"
    with pytest.raises(SparsightError, match=r"show predictions of 'cells:4'.*HTTP 400"):
        store.show_predictions(project, "cells:4")


def test_data_change_and_annotations_stay(store: AnnotationStore) -> None:
    project = store.ensure_project("Changed data", CONFIG)
    [number] = store.add_tasks(project, [data(1)])
    store.annotate(number, next(iter(store.users())), result("cell"))
    store.change_data(number, {"image": "http://127.0.0.1/new", "id": "p1", "container": "cells"})
    found = by_photo(store, project)["p1"]
    assert found["data"]["image"] == "http://127.0.0.1/new"
    assert len(found["annotations"]) == 1


def test_an_export_holds_every_task_and_every_annotation(store: AnnotationStore, label_studio: Service) -> None:
    project = store.ensure_project("Exported", CONFIG, 2)
    [people] = [list(store.users())]
    other = store._client.users.create(email="other@example.com", first_name="", last_name="", username="other").id
    assert store.users() == {people[0]: "admin@localhost", other: "other@example.com"}
    one, both, cancelled, _ = store.add_tasks(project, [data(number) for number in range(1, 5)])
    annotate = store._client.annotations.create
    annotate(str(one), result=result("cell"), completed_by=people[0])
    annotate(str(both), result=result("cell", "whole"), completed_by=people[0])
    annotate(str(both), result=[], completed_by=other)
    annotate(str(cancelled), result=result("cell"), completed_by=other, was_cancelled=True)
    found = by_photo(store, project)
    assert list(found) == ["p1", "p2", "p3", "p4"]
    told = {
        name: [(note["completed_by"], bool(note["result"]), note["was_cancelled"]) for note in each["annotations"]]
        for name, each in found.items()
    }
    assert told == {
        "p1": [(people[0], True, False)],
        "p2": [(people[0], True, False), (other, False, False)],
        "p3": [(other, True, True)],
        "p4": [],
    }
    assert [each.is_done for each in store.tasks(project)] == [False, True, False, False]
    assert store._client.projects.exports.list(project.id) == []  # no snapshot is left behind, nor its file
    assert list((label_studio.data / "media" / "export" / str(project.id)).iterdir()) == []


def test_a_large_export_takes_little_memory(store: AnnotationStore) -> None:
    project = store.ensure_project("Large", CONFIG)
    filler = "x" * 50_000
    list(store.add_tasks(project, (data(number, filler=filler) for number in range(400))))
    tracemalloc.start()
    count = sum(1 for _ in store.export(project))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 400
    assert peak < 8_000_000 < count * len(filler)


def test_an_export_that_outlasts_a_connection_is_found_again(
    store: AnnotationStore, settings: LabelStudioSettings
) -> None:
    project = store.ensure_project("Cut off", CONFIG)
    list(store.add_tasks(project, (data(number) for number in range(300))))
    with (
        gate(settings.url) as (between, url),
        open_annotations(LabelStudioSettings(url=url, token=settings.token)) as far,
    ):
        between.cut_next_answer = True
        assert len(list(far.export(project))) == 300
        assert not between.cut_next_answer


@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # the SDK calls it
def test_both_kinds_of_token_are_taken(store: AnnotationStore, settings: LabelStudioSettings) -> None:
    personal = store._client.tokens.create().token
    assert personal.count(".") == 2
    assert personal != settings.token
    with open_annotations(LabelStudioSettings(url=settings.url, token=personal)) as other:
        assert other.users() == store.users()


class NotLabelStudio(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html>Welcome!</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def something_else() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotLabelStudio) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def trouble(url: str, token: str = "t" * 40) -> SparsightError:
    with pytest.raises(SparsightError) as caught, open_annotations(LabelStudioSettings(url=url, token=token)):
        pass
    assert token not in str(caught.value)
    return caught.value


def test_who_cannot_get_in_is_told_why(settings: LabelStudioSettings) -> None:
    refused = trouble(settings.url)
    assert refused.problem == f"Label Studio at {settings.url} doesn't take the token: Invalid token."
    assert "personal access token" in refused.hint
    silent = trouble("http://127.0.0.1:9")
    assert silent.problem.startswith("Label Studio at http://127.0.0.1:9 doesn't answer: ")
    assert "services up --with label-studio" in silent.hint
    with something_else() as url:
        assert trouble(url).problem.startswith(f"What answers at {url} isn't Label Studio")


def test_a_project_that_is_not_there_is_told_with_those_that_are(store: AnnotationStore) -> None:
    store.ensure_project("There", CONFIG)
    with pytest.raises(SparsightError, match=r"has no project 'Their'; it has .*'There'"):
        store.project("Their")
    with pytest.raises(SparsightError, match="has no project 'Their'"):
        store.ensure_project("Their")


def test_two_projects_of_one_title_are_not_guessed_between(store: AnnotationStore) -> None:
    store.ensure_project("Twins", CONFIG)
    store._client.projects.create(title="Twins", label_config=CONFIG)
    with pytest.raises(SparsightError, match="has 2 projects with the title 'Twins'"):
        store.project("Twins")


@pytest.mark.parametrize(
    ("title", "config", "reason"),
    [("x", CONFIG, "title: .*at least 3 characters"), ("Broken", "<View>", "make project 'Broken'.*HTTP 400")],
)
def test_what_label_studio_refuses_is_told(store: AnnotationStore, title: str, config: str, reason: str) -> None:
    with pytest.raises(SparsightError, match=reason):
        store.ensure_project(title, config)
