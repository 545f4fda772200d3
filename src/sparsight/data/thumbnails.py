"""Small pictures of a few photos, for pages that people read."""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsight.data.decode import DecodeError, decode_image
from sparsight.stores.images import ImageError, ImageStore


def fetch_thumbnails(uris: Sequence[str], size: int = 160) -> list[NDArray[np.uint8] | None]:
    """Download photos and scale each to a square.

    Args:
        uris: where they are, in the account that the environment names.
        size: edge in pixels.

    Returns:
        uint8, size x size x 3 each; None for a photo that can't be had or is none.

    Raises:
        SparsightError: the environment names no account, or it lets us read nothing.
    """
    return asyncio.run(_fetch(uris, size))


async def _fetch(uris: Sequence[str], size: int) -> list[NDArray[np.uint8] | None]:
    async with ImageStore() as store:
        return await asyncio.gather(*(_one(store, uri, size) for uri in uris))


async def _one(store: ImageStore, uri: str, size: int) -> NDArray[np.uint8] | None:
    try:
        return await asyncio.to_thread(decode_image, await store.download(uri), size)
    except (ImageError, DecodeError):
        return None
