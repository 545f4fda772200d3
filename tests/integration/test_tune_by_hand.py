"""`tune --interactive`, driven by what a person types: it asks, trains, shows, saves, loads, and survives mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparsight.cli import main
from sparsight.cli.text_plot import draw
from sparsight.models.autoencoder_folder import read_autoencoder_model
from tests.digits import pack_digits

SCRIPT = "import sys; from pathlib import Path; from sparsight.cli import main; main(Path.cwd(), sys.argv[1:])"


def test_by_hand(tmp_path: Path) -> None:
    images = pack_digits(tmp_path / "images", 48, 24)
    typed = [
        *("1", "2", "5", "4", "2", "16"),  # 1 layer is too few: asked again
        *("save", str(tmp_path / "saved")),
        *("save", str(tmp_path / "saved")),  # is there already
        *("load", str(tmp_path / "nothing")),
        *("load", str(tmp_path / "saved")),
        *("what?", "quit"),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, "tune", str(images), "--interactive", "--no-services"],
        input="\n".join(typed) + "\n",
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    out = ended.stdout
    assert ended.returncode == 0, ended.stderr
    assert "72 images of 16 x 16 pixels" in out
    assert "Layers [2]: Error: expected at least 2, found 1." in out
    for default in ("size [3]", "Filters [32]", "Epochs [100]", "Batch size [32]"):
        assert default in out
    assert out.count("epoch 2/2") == 1
    assert out.count("Loss, epochs 1 to 2:") == 2  # of the trained, and of the loaded one
    assert "ssim 0." in out
    assert "Loaded " in out
    assert "layers 2, filter_size 5, filters 4, epochs 2, batch_size 16" in out
    assert "expected one of repeat, save, load, quit" in out
    for mistake in ("saved is there already", "nothing is not there"):
        assert mistake in ended.stderr
    (page,) = {line.split("open ")[1] for line in out.splitlines() if "/.sparsight/by_hand/" in line}
    assert Path(page).is_file()
    assert read_autoencoder_model(tmp_path / "saved").autoencoder.filters == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "tunes --interactive.\nA sampler tunes any training step: python execute.py run tune"),
        (["--interactive"], "There are no packed images in"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(tmp_path, ["tune", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_text_plot_falls_as_its_values_do() -> None:
    lines = draw([4.0, 3.0, 2.0, 1.0], height=4)
    assert [line[11:] for line in lines] == ["*", " *", "  *", "   *"]
    assert lines[0].startswith("        4 |")
    assert draw([1.0] * 200) == [f"{'1':>9} |{'*' * 60}", *([f"{'':>9} |"] * 6), f"{'1':>9} |"]
