"""What the search server answers: neighbours with addresses that a browser opens, and small pictures of them."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from sparsight.data.thumbnails import fetch_thumbnails
from sparsight.evaluation.thumbnails import thumbnail
from sparsight.local.search_server import Question
from sparsight.search.session import Session
from sparsight.stores.image_urls import UrlSigner, make_signer
from sparsight.stores.images import ImageError

_HOURS = 12.0
_SIDE = 160


class Answers:
    """Answers questions from an index.

    Args:
        session: on that index.
        now: a clock that never goes back.

    Raises:
        SparsightError: the environment names no storage account, or that lets us sign no addresses.
    """

    def __init__(self, session: Session, now: Callable[[], float] = time.monotonic) -> None:
        self._session, self._now = session, now
        self._sign()

    def about(self) -> dict[str, Any]:
        """Tell of the index."""
        index = self._session.index
        return {"photos": len(index), "model": index.description.model, "bits": index.description.bits}

    def __call__(self, question: Question) -> dict[str, Any]:
        """Answer one question: `neighbours`, nearest first, each with the fields of Neighbour, `url` and `thumbnail`.

        Raises:
            SparsightError: see `Session.search`; or the store lets us read nothing.
        """
        found = self._session.search(question.photo, question.count, question.label)
        signer = self._signer_now()
        rows = [dataclasses.asdict(each) | {"url": _url(signer, each.uri)} for each in found]
        if question.thumbnails:
            for row, picture in zip(rows, fetch_thumbnails([each.uri for each in found], _SIDE), strict=True):
                row["thumbnail"] = None if picture is None else thumbnail(picture, _SIDE)
        return {"index": self.about(), "neighbours": rows}

    def _signer_now(self) -> UrlSigner:
        if self._now() - self._signed_at > _HOURS * 3600 / 2:
            self._sign()
        return self._signer

    def _sign(self) -> None:
        self._signer, self._signed_at = asyncio.run(make_signer(_HOURS)), self._now()


def _url(signer: UrlSigner, uri: str) -> str | None:
    try:
        return signer.url(uri)
    except ImageError:
        return None
