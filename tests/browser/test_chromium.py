"""Where tests find their browser, and what those who have none are told."""

import os
import shutil
from pathlib import Path

import chromium
import pytest


def test_an_installed_browser_is_found_before_playwrights_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "google-chrome"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.find() == str(program)


def test_without_one_only_root_gets_one_and_others_are_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "find", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="There is no Chromium") as ended:
        chromium.main()
    assert "playwright install chromium" in str(ended.value.code)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no apt-get
    with pytest.raises(SystemExit, match="There is no Chromium"):
        chromium.main()
