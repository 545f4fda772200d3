"""Checkpoints are whole or absent, and nothing in them is run."""

import pickle

import pytest
import torch

from sparsight.errors import SparsightError
from sparsight.training.checkpoints import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def test_gives_back_what_was_saved(tmp_path):
    path = tmp_path / "checkpoint.pt"
    content = {"weights": {"a": torch.arange(3.0)}, "history": [{"epoch": 1, "loss": 0.5}]}
    save_checkpoint(path, content)
    loaded = load_checkpoint(path, CPU)
    assert torch.equal(loaded["weights"]["a"], content["weights"]["a"])
    assert loaded["history"] == content["history"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_no_checkpoint_is_no_error(tmp_path):
    assert load_checkpoint(tmp_path / "checkpoint.pt", CPU) is None


def test_a_write_that_is_cut_short_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 1})
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path, CPU) == {"epoch": 1}


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_told(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(SparsightError, match=r"checkpoint.pt isn't a checkpoint"):
        load_checkpoint(path, CPU)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "checkpoint.pt"
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(SparsightError):
        load_checkpoint(path, CPU)
    torch.save({"x": Evil()}, path)
    with pytest.raises(SparsightError):
        load_checkpoint(path, CPU)
    assert not (tmp_path / "ran").exists()
