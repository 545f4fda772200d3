"""Processes that download and decode: each with one event loop, its connections, and a thread for each core it has.

Pillow lets go of the interpreter lock while it decodes and resizes, so threads decode side by side as long as the rest
of the work, about half a millisecond an image, leaves the lock free. Hence one process for every four cores.
"""

import asyncio
import hashlib
import itertools
import multiprocessing
import os
import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from sparsight.data.decode import MAX_PIXELS, RESIZES, DecodeError, decode_image
from sparsight.data.shards import write_row
from sparsight.errors import SparsightError
from sparsight.stores.images import MAX_BYTES, ImageError, ImageStore

CORES_PER_PROCESS = 4
_AHEAD = 16
"""Jobs sent to a process beyond those it works on, so that it never waits for the next."""
_PATIENCE = 1.0
"""After so many seconds, who waits for outcomes gets a turn though none came."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What becomes of each image.

    Args:
        size: edge of the packed images in pixels.
        resize: `fit`, `crop` or `squash`; see `decode_image`.
        max_pixels: refuse images of more pixels.
        max_bytes: refuse files of more bytes.
    """

    size: int
    resize: str = "fit"
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise SparsightError(f"resize is {self.resize!r}; expected one of {', '.join(RESIZES)}.")
        for name in ("size", "max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                raise SparsightError(f"{name} is {getattr(self, name)}; expected 1 or more.")


class Job(NamedTuple):
    """Fetch this image and write it to that row of that shard."""

    image: int
    uri: str
    file_hash: str
    shard: Path
    rows: int
    row: int


class Outcome(NamedTuple):
    """What became of a job; an empty reason means that its row is written."""

    image: int
    reason: str = ""
    transient: bool = False


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def fetchers(packing: Packing, processes: int, concurrency: int) -> "Iterator[Fetchers]":
    """Start processes that fetch images, and stop them at the end of the block.

    Args:
        packing: what becomes of each image.
        processes: number of processes; they share the cores evenly.
        concurrency: downloads under way at once, over all processes.
    """
    threads = -(-cores() // processes)
    shares = [concurrency // processes + (number < concurrency % processes) for number in range(processes)]
    with ExitStack() as stack:
        yield Fetchers([stack.enter_context(_fetcher(packing, threads, share)) for share in shares], concurrency)


class Fetchers:
    """Running processes that take jobs."""

    def __init__(self, connections: Sequence[Connection], concurrency: int) -> None:
        self._connections = connections
        self._stock = -(-concurrency // len(connections)) + _AHEAD

    def outcomes(self, jobs: Iterator[Job]) -> Generator[list[Outcome], None, None]:
        """Do all jobs; yield outcomes as they come, in no set order, and nothing about once a second where none come.

        Only a bounded number of jobs is taken ahead of their outcomes.

        Raises:
            SparsightError: nothing can be read at all, or a process died.
        """
        waiting = dict.fromkeys(self._connections, 0)
        for connection in self._connections:
            waiting[connection] += _send(connection, jobs, self._stock)
        while busy := [connection for connection, count in waiting.items() if count]:
            for ready in wait(busy, _PATIENCE):
                assert isinstance(ready, Connection)  # noqa: S101 - wait() returns what it was given
                come = _receive(ready)
                waiting[ready] += _send(ready, jobs, len(come)) - len(come)
                yield come
            yield []


def _send(connection: Connection, jobs: Iterator[Job], count: int) -> int:
    """Send so many jobs in one message, or those that are left; returns their number."""
    batch = list(itertools.islice(jobs, count))
    if batch:
        try:
            connection.send(batch)
        except ConnectionError as error:
            raise _died() from error
    return len(batch)


def _receive(connection: Connection) -> list[Outcome]:
    """Take every outcome that has come by now."""
    outcomes = [_receive_one(connection)]
    while connection.poll():
        outcomes.append(_receive_one(connection))
    return outcomes


def _receive_one(connection: Connection) -> Outcome:
    try:
        message = connection.recv()
    except (EOFError, ConnectionError) as error:
        raise _died() from error
    if isinstance(message, SparsightError):
        raise message
    assert isinstance(message, Outcome)  # noqa: S101 - our own process sent it
    return message


def _died() -> SparsightError:
    return SparsightError(
        "A process that downloads and decodes ended unexpectedly; its own messages are above, if it had any.",
        hint="Where memory ran out, lower max_pixels or use a larger machine. What is done is kept for resuming.",
    )


@contextmanager
def _fetcher(packing: Packing, threads: int, concurrency: int) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_fetch_jobs, args=(theirs, packing, threads, concurrency), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join()
        process.close()


def _fetch_jobs(connection: Connection, packing: Packing, threads: int, concurrency: int) -> None:
    """Do jobs until the other end of the connection is closed, be it by a kill of the process that holds it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # decoders warn about broken files; each has its line in failures.csv
    with ThreadPoolExecutor(threads) as decoders:
        asyncio.run(_fetch(connection, packing, decoders, concurrency))


async def _fetch(connection: Connection, packing: Packing, decoders: Executor, concurrency: int) -> None:
    jobs = _incoming(connection)
    try:
        async with (
            ImageStore(max_bytes=packing.max_bytes, connections=concurrency) as store,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(concurrency):
                group.create_task(_fetch_in_turn(connection, jobs, store, decoders, packing))
    except asyncio.CancelledError:
        return
    except SparsightError as error:  # the store can't even be opened
        connection.send(error)


def _incoming(connection: Connection) -> asyncio.Queue[Job]:
    """Queue the jobs that come; the end of the connection cancels the task that called this."""
    jobs: asyncio.Queue[Job] = asyncio.Queue()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def take() -> None:
        try:
            for job in connection.recv():
                jobs.put_nowait(job)
        except (EOFError, ConnectionError):
            loop.remove_reader(connection.fileno())
            if task is not None:
                task.cancel()

    loop.add_reader(connection.fileno(), take)
    return jobs


async def _fetch_in_turn(
    connection: Connection, jobs: asyncio.Queue[Job], store: ImageStore, decoders: Executor, packing: Packing
) -> None:
    """Do one job after the other, holding one image at a time from its download until it is written."""
    loop = asyncio.get_running_loop()
    while True:
        job = await jobs.get()
        message: Outcome | SparsightError = Outcome(job.image)
        try:
            content = await store.download(job.uri)
            await loop.run_in_executor(decoders, _decode_and_write, content, job, packing)
        except (ImageError, DecodeError) as error:
            message = Outcome(job.image, error.reason, isinstance(error, ImageError) and error.transient)
        except OSError as error:
            message = SparsightError(f"{job.shard} can't be written: {error}.")
        except SparsightError as error:
            message = error
        connection.send(message)


def _decode_and_write(content: bytes, job: Job, packing: Packing) -> None:
    if content and job.file_hash and hashlib.sha256(content).hexdigest() != job.file_hash.lower():
        raise DecodeError("hash differs")
    pixels = decode_image(content, packing.size, packing.resize, max_pixels=packing.max_pixels)
    write_row(job.shard, job.rows, job.row, pixels)
