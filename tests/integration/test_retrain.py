"""Training anew when enough annotations came in: the first time, with nothing new, and with more labels."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparsight.data.samples import load_digits
from sparsight.local.records import RunFolder, all_runs
from sparsight.stores.registry import open_registry, resolve

RETRAIN = Path(__file__).parents[2] / "pipelines" / "retrain.yml"
SIZE = {
    "containers": "digits",
    "image_size": "16",
    "base_model": "none",
    "freeze_backbone": "false",
    "epochs": "2",
    "model_name": "retrained",
}
ENTRY = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path(sys.argv[1]), sys.argv[2:])"


def retrain(root: Path, **settings: str) -> tuple[subprocess.CompletedProcess[str], RunFolder]:
    given = [f"--set={name}={value}" for name, value in {**SIZE, **settings}.items()]
    command = [sys.executable, "-c", ENTRY, str(root), "run", str(RETRAIN), *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    return done, next(all_runs(root / "runs"))


@pytest.mark.usefixtures("service_environment")
def test_first_nothing_new_then_more_labels(tmp_path: Path) -> None:
    load_digits(limit=400, labelled=60, test=60)
    done, run = retrain(tmp_path, min_new="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Promoted: retrained has nothing in production yet." in done.stdout
    first = resolve(open_registry(), "retrained@production")
    assert first.number == 1

    done, run = retrain(tmp_path, min_new="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.read().status == "skipped"
    assert "Nothing to do: 0 new annotations since retrained/1 was trained" in done.stdout
    assert {name: run.read_step(name) for name in ("images", "classify", "promote")} == {
        "images": None,
        "classify": None,
        "promote": None,
    }

    load_digits(limit=400, labelled=160, test=60)
    done, run = retrain(tmp_path, min_new="1")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads((run.step("promote") / "outputs" / "verdict" / "verdict.json").read_text())
    assert (verdict["candidate"], verdict["incumbent"]) == ("retrained/2", "retrained/1")
    in_production = resolve(open_registry(), "retrained@production").reference
    assert in_production == ("retrained/2" if verdict["promoted"] else "retrained/1")
    assert verdict["promoted"] == (verdict["gain"] > 0)
