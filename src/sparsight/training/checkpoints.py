"""Checkpoints: one file, whole or absent, opened without running anything that it holds; and what is kept in them."""

import io
import pickle
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from sparsight.data.artefact import write_bytes
from sparsight.errors import SparsightError

CHECKPOINT = "checkpoint.pt"
RecordT = TypeVar("RecordT")
"""What is known after an epoch."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dictionaries of them, atomically.

    A process killed at any moment leaves the checkpoint before this one, or this one.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read a checkpoint onto a device; None where there is none.

    Raises:
        SparsightError: the file is damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise SparsightError(
            f"{path} isn't a checkpoint that can be read: {str(error).splitlines()[0] if str(error) else error!r}",
            hint="Remove it and start again.",
        ) from error
    return content


class Resumable(ABC, Generic[RecordT]):
    """A training that can be taken up again after any epoch.

    Attributes:
        device: where checkpoints are read to.
        options: with `epochs`.
        history: of each epoch that is done, in order.
        run_id: the leader's run.
    """

    device: torch.device
    options: Any
    history: list[RecordT]
    run_id: str

    @property
    def kept_epoch(self) -> int:
        """The epoch, from 1, whose weights a finished model has: the last, where a training chooses none."""
        return len(self.history)

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """All that training needs to go on."""

    @abstractmethod
    def load(self, snapshot: dict[str, Any]) -> None:
        """Take over where a snapshot was made."""

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(path, self.snapshot())

    def restore(self, path: Path) -> None:
        """Go back to where a checkpoint was written; does nothing where there is none.

        Raises:
            SparsightError: it is damaged, or of another network.
        """
        content = load_checkpoint(path, self.device)
        if content is None:
            return
        try:
            self.load(content)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise SparsightError(
                f"{path} belongs to another network or version.", hint="Remove it and start again."
            ) from error
        print(f"Going on after epoch {len(self.history)} of {self.options.epochs}.", flush=True)

    def take_up(self, folder: Path, begin: Callable[[], str], report: Callable[[RecordT], None]) -> None:
        """Begin a run, go back to the folder's checkpoint where it has one, and report the epochs that are done."""
        run_id = begin()
        self.restore(folder / CHECKPOINT)
        self.run_id = run_id
        for record in self.history:
            report(record)

    def remove_checkpoint(self, folder: Path) -> None:
        """Clear away what only an unfinished training needs."""
        (folder / CHECKPOINT).unlink(missing_ok=True)
