"""Where the studies of tunings are kept: a database's URL, from the environment or a key vault, or an SQLite file."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sparsight.errors import SparsightError
from sparsight.stores.settings import LOOPBACK
from sparsight.stores.vault import read_secret

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import URL

URL_VARIABLE, SECRET_VARIABLE = "SPARSIGHT_TUNING_STORAGE", "SPARSIGHT_TUNING_STORAGE_SECRET"
_ENCRYPTED = {"require", "verify-ca", "verify-full"}
_EXPECTED = "Expected is sqlite:////folder/studies.db or postgresql://user:password@host/database?sslmode=verify-full."


@dataclass(frozen=True, kw_only=True)
class StudyStorage:
    """A database of studies.

    Attributes:
        url: SQLAlchemy's; may hold a password. Never shown.
        shared: whether it outlives a tuning, so that others go on with its studies.
    """

    url: str = field(repr=False)
    shared: bool

    @classmethod
    def from_environment(cls, otherwise: Path, environment: Mapping[str, str] = os.environ) -> "StudyStorage":
        """Read SPARSIGHT_TUNING_STORAGE, or the secret that SPARSIGHT_TUNING_STORAGE_SECRET names in a key vault.

        Args:
            otherwise: the SQLite file where neither is set.
            environment: of this process.

        Raises:
            SparsightError: the secret can't be read.
        """
        if url := environment.get(URL_VARIABLE, "").strip():
            return cls(url=url, shared=True)
        if secret := environment.get(SECRET_VARIABLE, "").strip():
            return cls(url=read_secret(secret, variable=SECRET_VARIABLE), shared=True)
        return cls(url=sqlite_url(otherwise), shared=False)

    @contextmanager
    def opened(self) -> "Iterator[BaseStorage]":
        """Be connected for the length of a block.

        Raises:
            SparsightError: the URL is none, or would send a password in clear text, or nobody answers there.
        """
        from optuna.storages import RDBStorage, get_storage
        from sqlalchemy.exc import SQLAlchemyError

        url = _checked(self.url)
        try:
            database = RDBStorage(url.render_as_string(hide_password=False))
        except (SQLAlchemyError, RuntimeError) as error:
            raise SparsightError(
                f"The studies' database {url.render_as_string()} can't be opened: {_reason(error)}",
                hint=f"Check {URL_VARIABLE}, and that the server runs.",
            ) from None
        try:
            yield get_storage(database)
        finally:
            database.remove_session()
            database.engine.dispose()


def sqlite_url(file: Path) -> str:
    """Name an SQLite file as a database."""
    return f"sqlite:///{file.absolute()}"


def _checked(text: str) -> "URL":
    """Read a URL; no message shows it, as it may hold a password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SparsightError(f"{URL_VARIABLE} is no database's URL.", hint=_EXPECTED) from None
    if url.drivername == "sqlite":
        return url
    if url.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise SparsightError(f"{URL_VARIABLE} names a database of kind {url.drivername!r}.", hint=_EXPECTED)
    if url.host not in LOOPBACK and url.query.get("sslmode") not in _ENCRYPTED:
        raise SparsightError(
            f"{URL_VARIABLE} names {url.host}, to which data would go unencrypted.",
            hint="Add ?sslmode=verify-full, or ?sslmode=require where its certificate is its own.",
        )
    return url.set(drivername="postgresql+psycopg")


def _reason(error: Exception) -> str:
    """What the database's driver said, without SQLAlchemy's advice; neither tells passwords."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
