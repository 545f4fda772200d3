"""The page of the search server: a photo in, its neighbours out; what people aren't let do is said on the page."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from sparsight.errors import SparsightError
from sparsight.evaluation.thumbnails import thumbnail
from sparsight.local.search_server import Question, serving


def answer(question: Question) -> dict[str, Any]:
    """Made-up neighbours, as many as are asked for; the page and the server are the real ones."""
    if question.label == "fox":
        raise SparsightError("No photo of the index is labelled 'fox'.")
    grey = [np.full((24, 24, 3), 40 + 15 * number, np.uint8) for number in range(question.count)]
    return {
        "neighbours": [
            {
                "id": f"<i>{number}</i>.png",
                "label": "dog/poodle" if number % 2 else "",
                "distance": number,
                "cosine_distance": None if number % 2 else number / 100,
                "url": f"http://127.0.0.1:1/photos/{number}.png",
                "thumbnail": None if number == 3 else thumbnail(pixels, 160),
            }
            for number, pixels in enumerate(grey)
        ]
    }


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    with serving(0, answer, lambda: {"photos": 1234567, "model": "photos/3", "bits": 64}) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        yield page


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_photo_shows_its_neighbours_with_distances_and_links(page: Page, photo: Path, tmp_path: Path) -> None:
    expect(page.locator("#about")).to_contain_text("1,234,567 photos by their embeddings from photos/3")
    page.get_by_label("How many").fill("5")
    page.get_by_label(re.compile("^Photo")).set_input_files(photo)
    figures = page.locator("figure")
    expect(figures).to_have_count(5)
    expect(page.get_by_role("heading", name="5 photos, nearest first")).to_be_visible()
    expect(figures.nth(1)).to_contain_text("1 bit differs")
    expect(figures.nth(2)).to_contain_text("2 bits differ, cosine distance 0.020")
    expect(figures.nth(3)).to_contain_text("not to be had")
    link = figures.nth(0).get_by_role("link", name="<i>0</i>.png", exact=True)
    expect(link).to_have_attribute("href", "http://127.0.0.1:1/photos/0.png")
    assert page.locator("figure i").count() == 0, "ids are text"
    assert figures.nth(0).locator("img").evaluate("image => image.naturalWidth") == 24
    page.screenshot(path=tmp_path / "page.png", full_page=True)


def test_another_label_asks_again_and_trouble_is_told(page: Page, photo: Path) -> None:
    page.get_by_label(re.compile("^Photo")).set_input_files(photo)
    expect(page.locator("figure")).to_have_count(12)
    label = page.get_by_label("Label")
    label.fill("fox")
    label.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("No photo of the index is labelled 'fox'.")
    expect(page.locator("figure").first).to_be_hidden()
    label.fill("")
    label.press("Enter")
    expect(page.locator("figure").first).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
