"""The labelling loop with the real servers: photos are sent, labelled by three annotators, learned from, sent again."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sparsight.data.samples import load_digits
from sparsight.local.records import RunFolder, all_runs
from sparsight.local.services import Services
from sparsight.stores.annotations import open_annotations
from sparsight.stores.metadata import open_metadata
from sparsight.stores.registry import open_registry, resolve

PIPELINES = Path(__file__).parents[2] / "pipelines"
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"
PROJECT = "digits in rounds"
NETWORK = {"containers": "digits", "image_size": "28"}
LOOP = {
    **NETWORK,
    "project": PROJECT,
    "overlap": "2",
    "min_annotators": "2",
    "agreeing": "2",
    "require_review": "true",  # two who agree review each other; photos on which they differ don't count
    "train_ratio": "0.8",
    "valid_ratio": "0.2",
    "test_ratio": "0",
    "base_model": "loop-backbone@latest",
    "epochs": "80",
    "model_name": "loop-digits",
}


def execute(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", ENTRY, str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(root: Path, pipeline: str, **settings: str) -> RunFolder:
    given = [f"--set={name}={value}" for name, value in settings.items()]
    execute(root, "run", str(PIPELINES / f"{pipeline}.yml"), "--no-services", *given)
    return next(all_runs(root / "runs"))


def tasks_of(folder: RunFolder) -> pd.DataFrame:
    return pd.read_csv(folder.step("ask") / "outputs" / "tasks" / "tasks.csv", dtype=str)


async def annotated() -> list[dict[str, object]]:
    async with open_metadata() as store:
        text = "SELECT c.id, c.has_review, c.labels_with_taxonomy FROM c WHERE c.sortout_testset = @no"
        rows = await store.query("digits", text, {"@no": False})
    return [row for row in rows if row["labels_with_taxonomy"]]


@pytest.fixture
def taxonomy(tmp_path: Path) -> str:
    file = tmp_path / "digits.yml"
    file.write_text("nodes:\n  digit:\n" + "".join(f"  digit/{number}:\n" for number in range(10)))
    return str(file)


def test_rounds_of_the_loop(tmp_path: Path, taxonomy: str, labelling_environment: Services) -> None:
    load_digits(limit=700, labelled=0, test=150)
    small = {"backbone": "resnet10_narrow", "epochs": "3", "queue_size": "256"}
    run(tmp_path, "pretrain", **NETWORK, **small, model_name="loop-backbone")

    sent = run(
        tmp_path,
        "label_start",
        containers="digits",
        model="loop-backbone@latest",
        project=PROJECT,
        taxonomy=taxonomy,
        overlap="2",
        budget="120",
    )
    first = tasks_of(sent)
    assert (len(first), set(first["state"])) == (120, {"new"})
    simulate = ["labels", "simulate", PROJECT, "--truth", "digits", "--error-rate", "0.1", "--no-services"]
    assert "240 annotations of 120 tasks" in execute(tmp_path, *simulate)

    trained = run(tmp_path, "label_loop", **LOOP, taxonomy=taxonomy, budget="60")
    rows = asyncio.run(annotated())
    assert {row["id"] for row in rows} == set(first["id"])
    reviewed = [row for row in rows if row["has_review"]]
    assert 80 < len(reviewed) < 115, "both are right on 81 photos of 100, and agree on few others"
    dataset = trained.step("labelled_photos") / "outputs" / "dataset"
    counts = json.loads((dataset / "manifest.json").read_text())["counts"]
    assert counts["train"] + counts["valid"] == len(reviewed)
    assert resolve(open_registry(), "loop-digits@production").number == 1

    second = tasks_of(trained)
    assert (len(second), set(second["state"])) == (60, {"new"}), "what is labelled isn't sent again"
    assert not set(first["id"]) & set(second["id"])
    with open_annotations() as store:
        project = store.project(PROJECT)
        tasks = {str(task.data["id"]): task for task in store.tasks(project)}
        assert len(tasks) == 180
        suggested = [photo for photo in second["id"] if tasks[photo].model_versions]
        assert len(suggested) == 60, "each comes with what the new model makes of it"

    assert "120 annotations of 60 tasks" in execute(tmp_path, *simulate)
    again = run(tmp_path, "label_loop", **LOOP, taxonomy=taxonomy, budget="60")
    verdict = json.loads((again.step("promote") / "outputs" / "verdict" / "verdict.json").read_text())
    assert (verdict["candidate"], verdict["incumbent"]) == ("loop-digits/2", "loop-digits/1")
    metrics = json.loads((again.step("classify") / "outputs/model/report/metrics.json").read_text())
    assert metrics["macro_f1"] > 0.4, "chance is 0.1"

    told = execute(tmp_path, "labels", "status", PROJECT, "--model", "loop-digits", "--no-services")
    assert "180 done" in told
    assert "180 annotated photos, 3 annotators; 180 photos with two or more" in told
    assert told.count("loop-digits/") == 2
    assert (tmp_path / "learning_curve.png").stat().st_size > 10_000

    nothing = run(tmp_path, "label_loop", **LOOP, taxonomy=taxonomy)
    assert nothing.read().status == "skipped", "nobody has labelled anything since"
