import json
from pathlib import Path

import pytest

from sparsight.data.artefact import MANIFEST, new_artefact, read_manifest
from sparsight.errors import SparsightError


def write(target: Path, parameters: dict[str, object] | None = None, *, resume: bool = False) -> None:
    with new_artefact(target, "dataset", parameters or {"seed": 1}, resume=resume) as draft:
        (draft.folder / "train.csv").write_text("id\n")
        draft.counts["train"] = 1


def interrupt(target: Path, parameters: dict[str, object]) -> None:
    with pytest.raises(KeyboardInterrupt), new_artefact(target, "dataset", parameters, resume=True) as draft:
        (draft.folder / "half.csv").write_text("id\n")
        raise KeyboardInterrupt


def test_an_artefact_reads_back(tmp_path: Path) -> None:
    write(tmp_path / "dataset")
    manifest = read_manifest(tmp_path / "dataset", "dataset")
    assert manifest.counts == {"train": 1}
    assert manifest.parameters == {"seed": 1}
    assert sorted(path.name for path in (tmp_path / "dataset").iterdir()) == [MANIFEST, "train.csv"]


def test_it_appears_only_when_whole(tmp_path: Path) -> None:
    interrupt(tmp_path / "dataset", {"seed": 1})
    assert not (tmp_path / "dataset").exists()


def test_the_same_parameters_go_on_with_what_was_left(tmp_path: Path) -> None:
    interrupt(tmp_path / "dataset", {"seed": 1})
    write(tmp_path / "dataset", {"seed": 1}, resume=True)
    assert (tmp_path / "dataset" / "half.csv").exists()


@pytest.mark.parametrize(("parameters", "resume"), [({"seed": 2}, True), ({"seed": 1}, False)])
def test_anything_else_starts_anew(tmp_path: Path, parameters: dict[str, object], resume: bool) -> None:
    interrupt(tmp_path / "dataset", {"seed": 1})
    write(tmp_path / "dataset", parameters, resume=resume)
    assert not (tmp_path / "dataset" / "half.csv").exists()


def test_a_mounted_output_is_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    interrupt(tmp_path / "dataset", {"seed": 1})
    with pytest.raises(SparsightError, match="isn't finished"):
        read_manifest(tmp_path / "dataset", "dataset")
    write(tmp_path / "dataset", {"seed": 1}, resume=True)
    assert read_manifest(tmp_path / "dataset", "dataset").counts == {"train": 1}


def test_a_finished_artefact_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "dataset")
    with pytest.raises(SparsightError, match="finished already"):
        write(tmp_path / "dataset")


def test_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "dataset")
    with pytest.raises(SparsightError, match="holds 'sparsight/dataset'; expected 'sparsight/images'"):
        read_manifest(tmp_path / "dataset", "images")


def test_another_version_is_refused_naming_both(tmp_path: Path) -> None:
    write(tmp_path / "dataset")
    path = tmp_path / "dataset" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 7}))
    with pytest.raises(SparsightError, match=r"version 7 .* reads version 2"):
        read_manifest(tmp_path / "dataset", "dataset")


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}'])
def test_a_damaged_manifest_is_told(tmp_path: Path, content: str) -> None:
    write(tmp_path / "dataset")
    (tmp_path / "dataset" / MANIFEST).write_text(content)
    with pytest.raises(SparsightError, match="can't be read as a manifest"):
        read_manifest(tmp_path / "dataset", "dataset")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="is not there; expected a dataset folder"):
        read_manifest(tmp_path / "nowhere", "dataset")
