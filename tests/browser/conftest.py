"""A real browser, with a fresh profile for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import ADVICE, FLAGS, find
from playwright.sync_api import BrowserContext, sync_playwright


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    program = find()
    assert program, f"There is no Chromium: `make chromium`. {ADVICE}"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=program,
            args=list(FLAGS),
            viewport={"width": 1280, "height": 900},
        )
        # The pages are on this machine, which may be busy with other tests.
        context.set_default_timeout(60_000)
        yield context
        context.close()
