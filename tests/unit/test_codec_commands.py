"""`compress` and `decompress` as people type them: files and folders, odd sizes, threads, and what they refuse."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsight.cli import main
from sparsight.models.codec.container import OVERHEAD
from tests.codec_model import write_codec

ROOT = Path(__file__).parents[2]
SIZES = {"grey.png": (37, 61), "deep/er/photo.JPG": (8, 3), "deep/wide.webp": (700, 20), "big.tif": (610, 550)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_codec(tmp_path_factory.mktemp("codec") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Smooth photos of several formats and odd sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (name, size) in enumerate(SIZES.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        (picture.convert("L") if name == "grey.png" else picture).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def call(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(ROOT, list(map(str, words)))
    return ended.value.code or 0, capsys.readouterr()


def files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_images_of_any_size_comes_back(model, photos, tmp_path, capsys):
    code, told = call(capsys, "compress", photos, "--model", model, "--out", tmp_path / "small", "--jobs", 2)
    assert code == 0
    assert told.out.startswith("4 images, ")
    assert set(files(tmp_path / "small")) == {f"{name}.spsz" for name in SIZES}
    code, _ = call(capsys, "decompress", tmp_path / "small", "--model", model, "--out", tmp_path / "back")
    assert code == 0
    back = files(tmp_path / "back")
    assert set(back) == {"grey.png", "deep/er/photo.JPG.png", "deep/wide.webp.png", "big.tif.png"}
    for name, path in back.items():
        with Image.open(path) as picture:
            assert picture.size == SIZES[name if name in SIZES else name.removesuffix(".png")]
            assert picture.mode == ("L" if name == "grey.png" else "RGB")


def test_a_budget_is_kept(model, photos, tmp_path, capsys):
    sizes = []
    for budget in (0.3, 0.15):
        call(capsys, "compress", photos / "big.tif", "--model", model, "--out", tmp_path, "--bpp", budget)
        sizes.append(8 * (tmp_path / "big.tif.spsz").stat().st_size / (610 * 550))
    assert sizes[0] <= 0.3
    assert sizes[1] <= 0.15 < sizes[0]


def run_both_ways(model, photos, out, threads):
    """Compress and decompress in a process of its own, with so many threads for everything."""
    program = (
        "import sys; from sparsight.cli.codec import main\n"
        "model, photos, out, jobs = sys.argv[1:]\n"
        "small, back = out + '/small', out + '/back'\n"
        "for words in (['compress', photos, '--out', small], ['decompress', small, '--out', back]):\n"
        "    try: main([*words, '--model', model, '--jobs', jobs])\n"
        "    except SystemExit as ended: assert not ended.code, ended.code\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", program, str(model), str(photos), str(out), str(threads)]
    subprocess.run(command, check=True, env=environment)
    return {name: path.read_bytes() for name, path in files(out).items()}


def test_any_number_of_threads_gives_the_same_bytes_both_ways(model, photos, tmp_path):
    one, two = (run_both_ways(model, photos, tmp_path / str(threads), threads) for threads in (1, 2))
    assert len(one) == 2 * len(SIZES)
    assert one == two


def test_files_that_fail_are_told_and_stop_no_other(model, photos, tmp_path, capsys):
    call(capsys, "compress", photos, "--model", model, "--out", tmp_path / "small")
    broken = tmp_path / "small" / "big.tif.spsz"
    broken.write_bytes(broken.read_bytes()[:-1])
    changed = tmp_path / "small" / "grey.png.spsz"
    content = bytearray(changed.read_bytes())
    content[OVERHEAD // 2] ^= 1
    changed.write_bytes(content)
    code, told = call(capsys, "decompress", tmp_path / "small", "--model", model, "--out", tmp_path / "back")
    assert code == 1
    assert "big.tif.spsz: The file was cut short or changed" in told.err
    assert "grey.png.spsz: The file was cut short or changed" in told.err
    assert "2 files failed." in told.err
    assert set(files(tmp_path / "back")) == {"deep/er/photo.JPG.png", "deep/wide.webp.png"}


def test_another_model_is_named(model, photos, tmp_path, capsys):
    other = write_codec(tmp_path / "other", seed=1)
    call(capsys, "compress", photos / "grey.png", "--model", model, "--out", tmp_path)
    code, told = call(capsys, "decompress", tmp_path / "grey.png.spsz", "--model", other, "--out", tmp_path)
    assert code == 1
    assert "made with the model" in told.err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere is neither a file nor a folder."),
        (".", ". holds no .jpg, .jpeg, .png, .webp, .tif, .tiff file."),
    ],
)
def test_what_is_not_there_is_told(model, tmp_path, capsys, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    code, told = call(capsys, "compress", source, "--model", model, "--out", tmp_path / "out")
    assert code == 2
    assert message in told.err


def test_two_files_of_one_name_are_refused(model, photos, tmp_path, capsys):
    (tmp_path / "grey.png").write_bytes((photos / "grey.png").read_bytes())
    code, told = call(capsys, "compress", photos, tmp_path, "--model", model, "--out", tmp_path / "out")
    assert code == 2
    assert "Two files are named grey.png" in told.err
