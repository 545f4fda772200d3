"""Starts a Label Studio server on one port; its database is prepared once and kept for other data folders.

Run by path with Label Studio's own Python, never imported: `python -I label_studio_server.py PORT KEPT`. KEPT is where
a database without users is kept once Label Studio has made its tables: that takes minutes, where starting takes
seconds. The data folder, the administrator's name, password and token are in the environment.
"""

import contextlib
import fcntl
import os
import shutil
import sys
from pathlib import Path

from label_studio import server

HOST = "127.0.0.1"


def main(port: str, kept: Path) -> None:
    """Prepare the database where the data folder has none yet, and serve."""
    database = Path(os.environ["LABEL_STUDIO_BASE_DATA_DIR"], "label_studio.sqlite3")
    if not database.exists():
        with contextlib.suppress(OSError):  # nowhere to keep one: then the server makes its own
            take(kept, database)
    server._setup_env()
    settle()
    sys.argv = ["label-studio", "start", "--no-browser", "--internal-host", HOST, "--port", port]
    server.main()


def settle() -> None:
    """Put right what no variable of the environment reaches."""
    from core.feature_flags.stale_feature_flags import STALE_FEATURE_FLAGS
    from django.conf import settings

    # Where its port is taken it would silently take the next one; without this, listening fails.
    server._get_free_port = lambda asked, _debug: asked
    # The file of an export that is deleted would stay for ever.
    STALE_FEATURE_FLAGS["ff_back_dev_4664_remove_storage_file_on_export_delete_29032023_short"] = True
    settings.FILE_UPLOAD_PERMISSIONS = 0o600
    # A transaction that reads before it writes fails at once where another has written meanwhile; and tasks imported by
    # Label Studio's second attempt have lost their annotations and predictions. One that takes its turn first waits.
    settings.DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 60}


def take(kept: Path, database: Path) -> None:
    """Copy the kept database, or make one and keep it; whoever else wants it meanwhile waits."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            copy(kept, database)
            return
        server._setup_env()
        server._apply_database_migrations()
        copy(database, kept)


def copy(source: Path, target: Path) -> None:
    """Copy a file so that its new name is whole or absent, also when this process is killed."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.copyfile(source, draft)
    draft.replace(target)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
