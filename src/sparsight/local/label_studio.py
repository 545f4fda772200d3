"""The local Label Studio server: its environment, its administrator, its settings, and how to see that it is well."""

import hashlib
import http.client
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from sparsight.errors import SparsightError
from sparsight.local.asking import ask
from sparsight.local.processes import HOST, kept_secret

USER = "admin@localhost"
_REPOSITORY = Path(__file__).resolve().parents[3]
# Label Studio's own list without this machine itself, which it may tell of new annotations (webhooks).
_BANNED_NETWORKS = (
    "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.0.2.0/24,192.88.99.0/24,"
    "192.168.0.0/16,198.18.0.0/15,198.51.100.0/24,203.0.113.0/24,224.0.0.0/4,233.252.0.0/24,240.0.0.0/4,"
    "255.255.255.255/32,::/128,::ffff:0:0/96,::ffff:0:0:0/96,64:ff9b::/96,64:ff9b:1::/48,100::/64,2001:0000::/32,"
    "2001:20::/28,2001:db8::/32,2002::/16,fc00::/7,fe80::/10,ff00::/8"
)


def password(data: Path) -> str:
    """Return the administrator's password of a data folder, made at random on first use."""
    return kept_secret(_password_file(data), lambda: secrets.token_urlsafe(18))


def token(data: Path) -> str:
    """Return the token by which programs sign in as the administrator, made at random on first use."""
    return kept_secret(data / "token", lambda: secrets.token_hex(20))


def how_to_sign_in(data: Path) -> str:
    """Say who to sign in as and where the password is."""
    return f"sign in as {USER}; the password is in {_password_file(data)}"


def _password_file(data: Path) -> Path:
    return data / "password"


def command(port: int, data: Path) -> list[str]:
    """The command line that starts it.

    Raises:
        SparsightError: it isn't installed.
    """
    script, kept = Path(__file__).with_name("label_studio_server.py"), kept_database()
    program = _program()
    if not (data / "label_studio.sqlite3").exists() and not kept.exists():
        print("Label Studio makes its database. This happens once, and takes some minutes.", flush=True)
    return [str(program), "-I", str(script), str(port), str(kept)]


def _program() -> Path:
    environment = _REPOSITORY / ".label-studio"
    if not (environment / ".installed").exists():
        raise SparsightError(
            f"The Label Studio server is not installed in {environment}.",
            hint="Run `make label-studio`: it takes a minute and 0.8 GB.",
        )
    return environment / "bin" / "python"


def kept_database() -> Path:
    """Where a database without users is kept, which spares a new data folder the minutes in which it would be made.

    Another version of any of the server's packages has another one.
    """
    lock = _REPOSITORY / "requirements-label-studio.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "unknown"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "sparsight" / f"label-studio-{digest[:16]}.sqlite3"


def environment(data: Path) -> Mapping[str, str]:
    """Its settings: an administrator, everything in its data folder, and no word to anybody outside."""
    return {
        "HOME": str(data),
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": password(data),
        "LABEL_STUDIO_USER_TOKEN": token(data),
        # Only read when the organisation is made, that is at the very first start.
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "false",
        "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS": _BANNED_NETWORKS,
        "PYTHONWARNINGS": "ignore",
    }


def answers(port: int, data: Path) -> bool:
    """Ask who its token belongs to: a Label Studio with another database doesn't know it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    status, body = ask(connection, "/api/current-user/whoami", {"Authorization": f"Token {token(data)}"})
    return status == 200 and json.loads(body).get("email") == USER
