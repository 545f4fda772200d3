"""What a sync of Label Studio's annotations costs, against writing all of them anew; three annotations a photo.

Documents on a Cosmos DB server on this machine are synced with an export when they hold no labels yet, when nothing has
changed, and when one task in a hundred has; last comes the peer, which sets the fields of every document without
looking. Each runs in a process of its own, whose start isn't counted. Requests are counted where they leave it, and the
server's own ETags show which documents were written. Memory is the most that the process held, for a quarter of the
documents and for all.

The server's one thread shares the cores with the process it is measured with, and takes some hundred writes a second:
100,000 documents take a quarter of an hour. Waiting on a network, which the real service adds to each request, is not
in these numbers.

Usage:
    python benchmarks/label_sync.py [--quick] [--documents N]
"""

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTAINER = "photos"
PROJECT = "Benchmark"
ANNOTATORS = 12
PER_PHOTO = 3
AT_ONCE = 32
LABELS = [[first, f"{first} {second}"] for first in ("cell", "frame", "glass") for second in range(5)]


def tasks(count: int, changed_from: int) -> Iterator[dict[str, Any]]:
    """Make an export; tasks from this number on hold other labels, as if people had annotated them again."""
    for number in range(count):
        draw = random.Random(number)  # noqa: S311 - labels, not secrets
        people = draw.sample(range(1, ANNOTATORS + 1), PER_PHOTO)
        said = [annotation(number, who, draw.choice(LABELS), changed=number >= changed_from) for who in people]
        yield {
            "id": number + 1,
            "data": {"image": f"https://example.org/{number}.jpg?sig=x", "id": photo(number), "container": CONTAINER},
            "annotations": said,
            "drafts": [],
            "predictions": [],
            "project": 1,
        }


def annotation(number: int, who: int, label: list[str], *, changed: bool) -> dict[str, Any]:
    """Make an annotation in the shape of the open-source edition's export."""
    path = ["other", "changed"] if changed else label
    day = 2 if changed else 1
    result = {"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}
    return {
        "id": number * PER_PHOTO + who,
        "completed_by": who,
        "result": [result],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-01T08:00:00.000000Z",
        "updated_at": f"2026-01-{day:02d}T08:00:00.000000Z",
        "lead_time": 3.2,
    }


def photo(number: int) -> str:
    """Name a document."""
    return f"photo-{number:06d}"


def write_export(file: Path, count: int, changed_from: int) -> Path:
    """Write an export as one JSON list."""
    with file.open("w", encoding="utf-8") as stream:
        for number, task in enumerate(tasks(count, changed_from)):
            stream.write(",\n" if number else "[")
            json.dump(task, stream)
        stream.write("]")
    return file


def load(numbers: range) -> None:
    """Put documents without labels into the database."""
    from sparsight.stores.metadata import for_all, open_metadata

    async def run() -> None:
        async with open_metadata() as store:
            await store.ensure_container(CONTAINER)

            async def put(number: int) -> None:
                await store.upsert(CONTAINER, {"id": photo(number), "uri_orig": f"{CONTAINER}/{number}.jpg"})

            await for_all(numbers, put, at_once=AT_ONCE)

    asyncio.run(run())


def etags() -> dict[str, str]:
    """The version of each document."""
    from sparsight.stores.metadata import open_metadata

    async def run() -> list[dict[str, str]]:
        async with open_metadata() as store:
            return await store.query(CONTAINER, "SELECT c.id, c._etag FROM c")

    return {row["id"]: row["_etag"] for row in asyncio.run(run())}


def count_requests() -> Counter[str]:
    """Have every request of this process to the database counted, by kind."""
    import aiohttp

    counts: Counter[str] = Counter()
    original = aiohttp.ClientSession._request

    async def request(self: Any, method: str, url: Any, **options: Any) -> Any:
        headers = {name.lower() for name in options.get("headers") or {}}
        query = method == "POST" and "x-ms-documentdb-isquery" in headers
        kind = "page" if "x-ms-continuation" in headers else "query"
        counts[kind if query else "other" if method == "GET" else "write"] += 1
        return await original(self, method, url, **options)

    aiohttp.ClientSession._request = request
    return counts


def sync(export: Path) -> dict[str, Any]:
    """Sync once, and tell what it took."""
    from sparsight.data.sync.request import SyncRequest

    counts = count_requests()
    began = time.perf_counter()
    report = SyncRequest(project=PROJECT, containers=CONTAINER, export=export, annotators="id").run()
    return {"seconds": time.perf_counter() - began, "changed": report.changed, **counts, "peak_mib": peak_mib()}


def rewrite(export: Path) -> dict[str, Any]:
    """Do it in the most straightforward way: read the export, and set the fields of every document."""
    from sparsight.stores.metadata import for_all, open_metadata

    counts = count_requests()
    began = time.perf_counter()

    async def run() -> None:
        async with open_metadata() as store:

            async def put(task: dict[str, Any]) -> None:
                notes = [
                    {"annotator_id": str(each["completed_by"]), "taxonomy": each["result"][0]["value"]["taxonomy"]}
                    for each in task["annotations"]
                ]
                fields = {
                    "labels_with_taxonomy": notes,
                    "total_annotations": len(notes),
                    "has_imagerecognition_labels": True,
                    "has_review": False,
                }
                name = task["data"]["id"]
                operations = [{"op": "set", "path": f"/{field}", "value": value} for field, value in fields.items()]
                await store._container(CONTAINER).patch_item(name, name, operations)

            await for_all(json.loads(export.read_text(encoding="utf-8")), put, at_once=AT_ONCE)

    asyncio.run(run())
    return {"seconds": time.perf_counter() - began, **counts, "peak_mib": peak_mib()}


def peak_mib() -> int:
    """The most memory that this process held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def apart(what: str, export: Path) -> dict[str, Any]:
    """Run `sync` or `rewrite` in a process of its own."""
    command = [sys.executable, __file__, "--only", what, str(export)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    requests = " ".join(f"{told.get(kind, 0):8,} {kind}" for kind in ("query", "page", "write", "other"))
    print(f"{export.stem:<8} {what:<8} {told['seconds']:8.1f} s {requests} {told['peak_mib']:6} MiB", flush=True)
    return told


def measure(count: int, folder: Path) -> dict[str, Any]:
    """Load the documents, a quarter first, and measure."""
    exports = {
        "quarter": write_export(folder / "quarter.json", count // 4, count),
        "same": write_export(folder / "same.json", count, count),
        "changed": write_export(folder / "changed.json", count, count - count // 100),
    }
    began = time.perf_counter()
    size = exports["same"].stat().st_size
    print(f"{count:,} documents, {count * PER_PHOTO:,} annotations, an export of {size / 1e6:.0f} MB", flush=True)
    load(range(count // 4))
    apart("sync", exports["quarter"])
    quarter = apart("sync", exports["quarter"])
    load(range(count // 4, count))
    apart("sync", exports["same"])
    same = apart("sync", exports["same"])
    before = etags()
    changed = apart("sync", exports["changed"])
    after = etags()
    written = {name for name in after if after[name] != before[name]}
    expected = {photo(number) for number in range(count - count // 100, count)}
    assert (same.get("write", 0), same["query"], same["changed"]) == (0, 1, 0), same
    assert written == expected, f"{len(written ^ expected)} documents were written that shouldn't, or not that should"
    peer = apart("rewrite", exports["same"])
    print(f"took {time.perf_counter() - began:.0f} s")
    return {
        "name": "label_sync",
        "peer": "setting the fields of every document, whether they differ or not",
        "ratio": round(peer["seconds"] / same["seconds"], 1),
        "ratio_one_percent_changed": round(peer["seconds"] / changed["seconds"], 1),
        "documents": count,
        "seconds": round(same["seconds"], 1),
        "seconds_one_percent_changed": round(changed["seconds"], 1),
        "peer_seconds": round(peer["seconds"], 1),
        "queries": same["query"],
        "writes": same.get("write", 0),
        "writes_one_percent_changed": len(written),
        "peak_mib": {str(count // 4): quarter["peak_mib"], str(count): same["peak_mib"]},
        "peer_peak_mib": peer["peak_mib"],
    }


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3,000 documents: under a minute on two cores")
    parser.add_argument("--documents", type=int, default=100_000, help="how many (default 100,000)")
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "EXPORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        what, export = arguments.only
        print(json.dumps({"sync": sync, "rewrite": rewrite}[what](Path(export))))
        return
    from sparsight.local.services import environment, running_services

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with running_services(folder / "services", only=["cosmos"]) as services:
            os.environ.update(environment(services))
            print(json.dumps(measure(3_000 if arguments.quick else arguments.documents, folder)))


if __name__ == "__main__":
    main()
