"""data_prep in two processes: the bytes of a single one, in one folder or two, and whoever is killed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sparsight.data.artefact import MANIFEST, read_manifest
from sparsight.data.packed import shard_name
from tests.photos import PHOTOS, contents, table, upload, write_dataset

# Runs the step as its command line does, but with small shards. FATAL names a place, a function and a call of it: there
# the process of that place kills itself, once.
DRIVER = """
import os, signal, sys
from pathlib import Path
from sparsight.data import packing_plan
from sparsight.steps.arguments import run_step
from sparsight.steps.data_prep import Arguments, main
packing_plan.SHARD_ROWS = 4
mark, place, name, call = os.environ.get("FATAL", "- - - 0").split()
if place == os.environ.get("SPARSIGHT_LOCAL_RANK") and Path(mark).exists():
    real, left = getattr(packing_plan, name), [int(call)]
    def fatal(*arguments):
        if not left[0]:
            Path(mark).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*arguments)
    setattr(packing_plan, name, fatal)
run_step(Arguments, main, sys.argv[1:])
"""
SHARDS = 9
pytestmark = pytest.mark.usefixtures("service_environment")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Images of three splits, some of them repeated, and two that are missing."""
    names = list(PHOTOS)[:33]
    upload("data-prep-shared", {name: PHOTOS[name] for name in names})
    names[3:3], names[20:20] = ["gone-1"], ["gone-2"]
    rows = table("data-prep-shared", names)
    rows["split"] = ["train"] * 25 + ["valid"] * 5 + ["test"] * 5
    return write_dataset(tmp_path / "dataset", pd.concat([rows.iloc[:6], rows], ignore_index=True))


@pytest.fixture
def prepare(horovod, dataset):
    """`prepare(images, processes)`: run the step; the name of a folder may have shell variables in it."""

    def run(images: object, processes: int = 1, fatal: str = "", max_failures: float = 0.1):
        words = ["--dataset", dataset, "--image_size", 8, "--max_failures", max_failures, "--instances", processes]
        step = shlex.join([sys.executable, "-c", DRIVER, *map(str, words)]) + f' --images "{images}"'
        command = ["bash", "-c", f"exec {step}"]
        if processes > 1:
            launcher = [sys.executable, "-m", "sparsight.local.horovod_launcher", "--processes", str(processes)]
            command = [*launcher, "--shell", f"exec {step}"]
        variables = {**horovod.environment(), "OMP_NUM_THREADS": "1", **({"FATAL": fatal} if fatal else {})}
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture
def alone(prepare, tmp_path):
    """What a single process makes."""
    done = prepare(tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    return contents(tmp_path / "alone")


@pytest.mark.parametrize(("place", "call"), [(1, "commit_shard 1"), (0, "close_up 1")])
def test_in_one_folder_they_make_the_same_even_if_one_is_killed(prepare, alone, tmp_path, place, call):
    (tmp_path / "fatal").touch()
    done = prepare(tmp_path / "images", 2, f"{tmp_path}/fatal {place} {call}")
    assert done.returncode == 0, done.stderr
    assert f"worker-{place} was killed by signal 9; worker-2 takes its place\n" in done.stderr
    assert contents(tmp_path / "images") == alone
    assert "35/35 images" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "dataset", "images"]


def test_in_folders_of_their_own_they_make_parts_of_the_same(prepare, alone, tmp_path):
    parts = [tmp_path / "node-0", tmp_path / "node-1"]
    for part in parts:
        part.mkdir()  # as Azure ML does
    done = prepare(f"{tmp_path}/node-$SPARSIGHT_LOCAL_RANK", 2)
    assert done.returncode == 0, done.stderr
    first, second = map(contents, parts)
    assert not first.keys() & second.keys(), "uploaded to one place, none would overwrite the other's"
    assert {**first, **second} == alone
    assert set(second) < {shard_name(shard) for shard in range(SHARDS)}
    assert len(second) == SHARDS // 2
    assert read_manifest(parts[0], "images").counts["failures"] == 2
    assert not (parts[1] / MANIFEST).exists()


def test_too_many_failures_are_told_once_and_any_number_of_processes_goes_on(prepare, alone, tmp_path):
    done = prepare(tmp_path / "images", 2, max_failures=0.01)
    assert done.returncode == 2
    draft = tmp_path / "images.partial"
    listed = draft / "failures.csv"
    told = f"error: 2 of 35 images failed (2 missing); max_failures 0.01 allows 0. The list is {listed}."
    assert [line for line in done.stderr.splitlines() if line.startswith("error")] == [told]
    assert pd.read_csv(listed)["id"].tolist() == ["gone-1", "gone-2"]
    whole = [shard_name(shard) for shard in range(SHARDS) if shard not in {0, 5}]
    written = [(draft / name).stat().st_mtime_ns for name in whole]
    assert prepare(tmp_path / "images").returncode == 0
    assert [(tmp_path / "images" / name).stat().st_mtime_ns for name in whole] == written
    assert contents(tmp_path / "images") == alone


def test_a_single_process_needs_neither_torch_nor_horovod(prepare, tmp_path, monkeypatch):
    for name in ("torch", "horovod"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = prepare(tmp_path / "images")
    assert done.returncode == 0, done.stderr
