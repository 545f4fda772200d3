"""Checkpoints: one file that is whole or absent, opened without running anything that it holds."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from sparsight.data.artefact import write_bytes
from sparsight.errors import SparsightError


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
