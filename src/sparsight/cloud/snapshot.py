"""The code that goes with a job: which files are uploaded, how large they are, and once for all steps that share it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsight.errors import SparsightError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

MAX_BYTES = 300 * 2**20
"""As much as Azure ML takes."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A code folder as it would be uploaded.

    Args:
        folder: the folder.
        files: path in the folder -> bytes.
        digest: hash over names and content of all files.
    """

    folder: Path
    files: dict[str, int]
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def snapshot_of(folder: Path) -> Snapshot:
    """List a code folder the way azure-ai-ml does, `.amlignore` or else `.gitignore` in it obeyed.

    Raises:
        SparsightError: there is nothing to upload, or too much.
    """
    from azure.ai.ml._utils._asset_utils import get_ignore_file, get_upload_files_from_folder

    ignore = get_ignore_file(folder)
    found = get_upload_files_from_folder(folder, ignore_file=ignore)
    paths = sorted((Path(each[0]) for each in found), key=lambda path: path.as_posix())
    files, total = {}, hashlib.sha256()
    for path in paths:
        name = path.resolve().relative_to(folder.resolve()).as_posix()
        files[name] = path.stat().st_size
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    snapshot = Snapshot(folder=folder, files=files, digest=total.hexdigest())
    if not files:
        raise SparsightError(f"The code folder {folder} holds no file to upload.", hint="See its .amlignore.")
    if snapshot.size > MAX_BYTES:
        largest = max(files, key=files.__getitem__)
        raise SparsightError(
            f"The code folder {folder} would upload {snapshot.size / 2**20:,.0f} MB; Azure ML takes 300 MB at most "
            f"(largest file: {largest}).",
            hint="Name what isn't code in an .amlignore file in that folder.",
        )
    return snapshot


def upload(client: "MLClient", snapshot: Snapshot) -> str:
    """Make a snapshot known to the workspace, once: unchanged code is found by its digest and not uploaded again.

    azure-ai-ml alone gives each step's code a random name, and so uploads a folder that ten steps share ten times.

    Returns:
        The code's id in the workspace.
    """
    from azure.ai.ml.entities._assets import Code

    name = f"{snapshot.digest[:8]}-{snapshot.digest[8:12]}-{snapshot.digest[12:16]}-{snapshot.digest[16:20]}"
    code = Code(name=f"{name}-{snapshot.digest[20:32]}", version="1", path=str(snapshot.folder))
    return str(client._code.create_or_update(code).id)
