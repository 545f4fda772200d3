"""Finds a Chromium for tests in a browser; run as a program, it installs Debian's where there is none.

Looked for are Debian's Chromium, Chrome, and what `playwright install chromium` has put into the user's cache.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    *(("--no-sandbox",) if os.geteuid() == 0 else ()),  # Chromium's sandbox doesn't start as root
)
ADVICE = (
    "Install Chromium or Chrome by your system's own means (on Debian: apt-get install chromium), or into your cache: "
    ".venv/bin/playwright install chromium"
)


def find() -> str | None:
    """Return the path of a browser, if there is one."""
    installed = next((found for name in NAMES if (found := shutil.which(name))), None)
    return installed or playwrights_own()


def playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def install() -> None:
    """Install Debian's package, as only root can."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"error: There is no Chromium for tests in a browser.\n{ADVICE}")
    print("Installing Debian's Chromium", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        subprocess.run(["apt-get", "--quiet=2", *command], check=True, env=environment)


def main() -> None:
    if find():
        return
    install()
    if not find():
        sys.exit(f"error: apt-get has installed no Chromium that works.\n{ADVICE}")


if __name__ == "__main__":
    main()
