"""A gate in front of a real server: forwards bytes, counts connections, and breaks as many of them as asked."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Gate:
    """Forwards connections on a port of its own to a server on this machine.

    Attributes:
        port: where it listens on 127.0.0.1.
        opened: connections taken so far.
        most: most connections that were open at once.
        break_next: so many of the next connections are closed once their first request has come.
        cut_next_answer: the next answer isn't let through: its connection is closed instead.
        cut_after: once so many bytes of answers have been let through, their connection is closed, once; 0 for never.
    """

    def __init__(self, target_port: int) -> None:
        self.port = self.opened = self.most = self.break_next = self.cut_after = 0
        self.cut_next_answer = False
        self._target_port = target_port
        self._open = 0

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.opened += 1
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            with contextlib.suppress(ConnectionError):
                await self._forward(reader, writer)
        finally:
            self._open -= 1
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.break_next:
            self.break_next -= 1
            await reader.read(1)
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        answers = _copy(server_reader, writer, self._is_let_through)
        await asyncio.gather(_copy(reader, server_writer), answers)

    def _is_let_through(self, size: int) -> bool:
        is_cut, self.cut_next_answer = self.cut_next_answer, False
        if self.cut_after:
            self.cut_after = max(0, self.cut_after - size)
            is_cut |= not self.cut_after
        return not is_cut


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_let_through: Callable[[int], bool] = lambda _: True
) -> None:
    try:
        with contextlib.suppress(ConnectionError):
            while (chunk := await reader.read(1 << 16)) and is_let_through(len(chunk)):
                writer.write(chunk)
                await writer.drain()
    finally:
        writer.close()


@contextmanager
def gate(url: str) -> Iterator[tuple[Gate, str]]:
    """Open a gate in front of a server; yields it and the server's address through it."""
    parts = urlsplit(url)
    assert parts.port
    opened = Gate(parts.port)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(opened.forward, "127.0.0.1", 0))
    opened.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield opened, parts._replace(netloc=f"127.0.0.1:{opened.port}").geturl()
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
