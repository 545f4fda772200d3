"""What people see in Label Studio: the photo, and the model's label already chosen."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from sparsight.local import label_studio
from sparsight.local.services import Services
from sparsight.steps.push_tasks import Arguments, main
from sparsight.stores.annotations import Project, open_annotations
from tests.labelling import TAXONOMY, upload, write_dataset, write_predictions, write_selection


def sign_in(page: Page, services: Services) -> str:
    """Sign in as the administrator, as a person would; returns the server's address."""
    studio = services["label-studio"]
    page.goto(f"{studio.url}/user/login")
    page.locator("input[name=email]").fill(label_studio.USER)
    page.locator("input[name=password]").fill((studio.data / "password").read_text().strip())
    page.locator("button[type=submit]").click()
    page.wait_for_url(lambda address: "login" not in address, wait_until="commit")
    return studio.url


@pytest.fixture
def project(labelling_environment: Services, tmp_path: Path) -> Project:
    """Two photos to be labelled, `b` first, of which a model has seen that one. (In a fixture, as the browser's own
    event loop lets no other run beside it.)"""
    upload("seen", ["a", "b"])
    (tmp_path / "taxonomy.yml").write_text(TAXONOMY)
    main(
        Arguments(
            selection=write_selection(tmp_path / "selection", ["b", "a"]),
            dataset=write_dataset(tmp_path / "dataset", "seen", ["a", "b"]),
            predictions=write_predictions(tmp_path / "predictions", "cells:3", {"b": "cell/whole"}),
            taxonomy=tmp_path / "taxonomy.yml",
            language="de",
            project="Seen in a browser",
            tasks=tmp_path / "tasks",
        )
    )
    with open_annotations() as store:
        return store.project("Seen in a browser")


def test_people_see_the_photo_and_the_models_label_and_agree(
    labelling_environment: Services, project: Project, browser: BrowserContext, tmp_path: Path
) -> None:
    page = browser.new_page()
    asked = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
    url = sign_in(page, labelling_environment)
    page.goto(f"{url}/projects/{project.id}/data?labeling=1")

    expect(page.get_by_text("cell / Heil")).to_be_visible()
    photo = page.locator("img[src^=blob]").first
    expect(photo).to_be_visible()
    assert photo.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [160, 120]
    page.screenshot(path=tmp_path / "labelling.png")

    page.get_by_role("button", name="Submit current annotation").click()
    expect(page.get_by_text("cell / Heil")).not_to_be_visible()  # the next photo, which no model has seen
    assert asked <= {"127.0.0.1", None}  # None: addresses of the page's own data
    with open_annotations() as store:
        labelled = [task for task in store.export(project) if task["annotations"]]
    [annotation] = [each for task in labelled for each in task["annotations"]]
    assert [task["data"]["id"] for task in labelled] == ["b"]
    assert [each["value"]["taxonomy"] for each in annotation["result"]] == [[["cell", "whole"]]]
