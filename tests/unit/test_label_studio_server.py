"""Label Studio's database: made once, kept, copied; by several processes at once, and by one that is killed.

The Label Studio in these tests is a stand-in that makes its database slowly, and says when it does.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from sparsight.local import label_studio

SCRIPT = Path(label_studio.__file__).with_name("label_studio_server.py")
STAND_IN = """
import os, time
from pathlib import Path

data = Path(os.environ["LABEL_STUDIO_BASE_DATA_DIR"])

def _setup_env():
    pass

def _apply_database_migrations():
    (data / "label_studio.sqlite3").write_text("half")
    print("makes it", flush=True)
    time.sleep(float(os.environ.get("SECONDS", "1")))
    (data / "label_studio.sqlite3").write_text("tables")

def main():
    if not (data / "label_studio.sqlite3").exists():
        _apply_database_migrations()
    print("serves", (data / "label_studio.sqlite3").read_text(), flush=True)
"""

SETTINGS = {
    "core/feature_flags/stale_feature_flags.py": "STALE_FEATURE_FLAGS = {}",
    "django/conf.py": 'class settings:\n    DATABASES = {"default": {}}',
}


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    package = tmp_path / "modules" / "label_studio"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "server.py").write_text(STAND_IN)
    for name, text in SETTINGS.items():
        (package.parent / name).parent.mkdir(parents=True)
        (package.parent / name).write_text(text)
    return package.parent


def start(modules: Path, data: Path, kept: Path, **variables: str) -> "subprocess.Popen[str]":
    data.mkdir()
    environment = {"PYTHONPATH": str(modules), "LABEL_STUDIO_BASE_DATA_DIR": str(data), **variables}
    command = [sys.executable, "-P", str(SCRIPT), "1", str(kept)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> list[str]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out.splitlines()


def test_of_several_at_once_one_makes_it_and_all_serve(modules: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "kept.sqlite3"
    processes = [start(modules, tmp_path / f"data-{number}", kept) for number in range(3)]
    told = [said(process) for process in processes]
    assert sorted(told, key=len) == [["serves tables"], ["serves tables"], ["makes it", "serves tables"]]
    assert kept.read_text() == "tables"
    assert said(start(modules, tmp_path / "later", kept)) == ["serves tables"]


def test_half_a_database_is_never_kept(modules: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "kept.sqlite3"
    with start(modules, tmp_path / "killed", kept, SECONDS="60") as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "makes it\n"
        killed.kill()
    assert not kept.exists()
    assert said(start(modules, tmp_path / "next", kept)) == ["makes it", "serves tables"]
    assert kept.read_text() == "tables"


def test_it_does_without_a_place_to_keep_it(modules: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()  # no folder
    assert said(start(modules, tmp_path / "data", tmp_path / "cache" / "kept")) == ["makes it", "serves tables"]


def test_a_data_folder_with_a_database_is_served_as_it_is(modules: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.sqlite3"
    kept.write_text("tables")
    process = start(modules, tmp_path / "data", kept)
    assert said(process) == ["serves tables"]
    (tmp_path / "data" / "label_studio.sqlite3").write_text("users and tasks")
    environment = {"PYTHONPATH": str(modules), "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path / "data")}
    again = [sys.executable, "-P", str(SCRIPT), "1", str(kept)]
    assert subprocess.check_output(again, env=environment, text=True) == "serves users and tasks\n"


def test_other_versions_have_another_kept_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_studio, "_REPOSITORY", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lock = tmp_path / "requirements-label-studio.lock"
    lock.write_text("label-studio==1")
    one = label_studio.kept_database()
    assert one.parent == tmp_path / "cache" / "sparsight"
    lock.write_text("label-studio==2")
    assert label_studio.kept_database() != one
    lock.write_text("label-studio==1")
    assert label_studio.kept_database() == one


def test_the_administrators_secrets_are_random_lasting_and_in_the_environment_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    variables = label_studio.environment(one)
    assert variables == label_studio.environment(one)
    for name in ("LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_USER_TOKEN"):
        assert len(variables[name]) > 20
        assert variables[name] != label_studio.environment(other)[name]
    assert {path.stat().st_mode & 0o777 for path in one.iterdir()} == {0o600}
