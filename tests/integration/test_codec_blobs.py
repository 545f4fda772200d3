"""`compress` and `decompress` over Blob prefixes, against a real Azurite."""

import asyncio
import io

import pytest
from PIL import Image

from sparsight.cli.codec import main
from sparsight.stores.images import ImageStore
from tests.codec_model import write_codec

CONTAINER = "codec-photos"


async def store(files):
    async with ImageStore() as images:
        await images.ensure_container(CONTAINER)
        for name, content in files.items():
            await images.upload(f"{CONTAINER}/{name}", content, "application/octet-stream")


async def listed(prefix):
    async with ImageStore() as images:
        return [name async for name, _ in images.blobs_below(prefix)]


async def fetch(path):
    async with ImageStore() as images:
        return await images.download(path)


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words), "--no-services"])
    return ended.value.code or 0


def test_a_prefix_is_compressed_into_another_and_back(service_environment, tmp_path, capsys):
    pictures = {}
    for number, size in enumerate([(20, 9), (64, 40)]):
        content = io.BytesIO()
        Image.new("RGB", size, (90 * number, 120, 200)).save(content, "PNG")
        pictures[f"raw/{number}.png"] = content.getvalue()
    asyncio.run(store({**pictures, "raw/readme.txt": b"x", "rawer/2.png": pictures["raw/0.png"]}))
    model = write_codec(tmp_path / "model")
    small, back = f"blob:{CONTAINER}/small", f"blob:{CONTAINER}/back"
    assert run("compress", f"blob:{CONTAINER}/raw", "--model", model, "--out", small) == 0
    assert asyncio.run(listed(f"{CONTAINER}/small")) == [f"{CONTAINER}/small/{n}.png.spsz" for n in (0, 1)]
    assert run("decompress", small, "--model", model, "--out", back) == 0
    made = Image.open(io.BytesIO(asyncio.run(fetch(f"{CONTAINER}/back/1.png"))))
    assert made.size == (64, 40)
    assert run("compress", f"blob:{CONTAINER}/raw/1.png", "--model", model, "--out", tmp_path / "local") == 0
    assert (tmp_path / "local" / "1.png.spsz").read_bytes() == asyncio.run(fetch(f"{CONTAINER}/small/1.png.spsz"))
    assert run("compress", "blob:codec-nowhere/raw", "--model", model, "--out", small) == 2
    told = capsys.readouterr().err
    assert "'codec-nowhere/raw': The specified container does not exist." in told
