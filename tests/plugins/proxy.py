"""A TCP proxy on loopback between a client and a server, that harms connections the way networks do.

Contract: bytes pass unchanged and in order until a fault is asked for. Faults: a connection is cut after so many bytes
from the server (`Cut`), connections are black-holed (nothing passes any more in either direction, and nobody is told),
every chunk is delayed, bytes that the server never sent are put into the stream. What the proxy was told holds from
then on; it has a thread of its own, and its methods may be called from any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

_CHUNK = 65536
_PATIENCE = 30.0
_ASKS_REPLICATION = b"\0replication\0"
"""Stands in the startup message of a replication connection, and in no other."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Cut:
    """After `after` bytes from the server the connection ends: `reset` by RST (then late bytes may be lost, too),
    else by FIN, so that the client gets exactly so many."""

    after: int
    reset: bool = False


class _Link:
    """One connection: client ↔ proxy ↔ server."""

    def __init__(self, client: asyncio.StreamWriter, cut: Cut | None) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.cut = cut
        self.passed = 0
        self.replicating = False
        self.open = asyncio.Event()
        self.open.set()


class Proxy:
    """See the module's contract. `plan` says for each new connection, counted from 0, whether and where it is cut."""

    def __init__(self, target_port: int, plan: Callable[[int], Cut | None] | None = None) -> None:
        self._target = target_port
        self.plan = plan
        self.delay = 0.0
        """Seconds that each chunk waits before it is passed on."""
        self.accepted = 0
        """Connections so far."""
        self.cuts = 0
        """Connections that were cut as planned."""
        self.port = 0
        self._links: list[_Link] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy")

    def dsn(self, dsn: str) -> str:
        """The same connection string, through the proxy."""
        return dsn.replace(f"port={self._target} ", f"port={self.port} ")

    def lead_to(self, port: int) -> None:
        """From now on connections lead to another server, as when a virtual address moves; those there are are cut."""

        def move() -> None:
            self._target = port
            for link in list(self._links):
                self._end(link, reset=True)

        self._do(move)

    @property
    def open_links(self) -> int:
        """Connections that pass bytes now."""
        return len([link for link in self._links if link.open.is_set()])

    def black_hole(self) -> int:
        """From now on nothing passes on the connections there are; new ones are not touched. How many there were."""
        return self._do(self._black_hole)

    def cut_all(self, reset: bool = False) -> None:
        """Cut every connection now."""
        self._do(lambda: [self._end(link, reset) for link in list(self._links)])

    def inject(self, data: bytes) -> None:
        """Give the client of the newest replication connection bytes as if the server had sent them, between two of
        its chunks."""
        self._do(lambda: [link for link in self._links if link.replicating][-1].client.write(data))

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    # -- on the proxy's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, action: Callable[[], _Result]) -> _Result:
        async def run() -> _Result:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_PATIENCE)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        while self._links or self._tasks:
            for link in list(self._links):
                self._end(link, reset=True)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were aborted are closed in the next round

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.accepted = self.accepted, self.accepted + 1
        link = _Link(writer, self.plan(number) if self.plan is not None else None)
        self._links.append(link)
        self._keep(self._serve(link, reader))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, link: _Link, client: asyncio.StreamReader) -> None:
        try:
            server, link.server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            self._end(link, reset=True)  # as if nobody listened
            return
        if link not in self._links:  # it was cut meanwhile
            link.server.transport.abort()
            return
        self._keep(self._pump(link, client, link.server, self._plain))
        await self._pump(link, server, link.client, self._counted)

    async def _pump(
        self,
        link: _Link,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        allowed: Callable[[_Link, bytes], bytes],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await link.open.wait()
                sink.write(passed := allowed(link, data))
                await sink.drain()
                if len(passed) < len(data) or (link.cut is not None and link.passed >= link.cut.after):
                    self.cuts += 1
                    self._end(link, link.cut is not None and link.cut.reset)
                    return
        await link.open.wait()
        self._end(link)

    @staticmethod
    def _plain(link: _Link, data: bytes) -> bytes:
        link.replicating = link.replicating or _ASKS_REPLICATION in data
        return data

    @staticmethod
    def _counted(link: _Link, data: bytes) -> bytes:
        passed = data if link.cut is None else data[: link.cut.after - link.passed]
        link.passed += len(passed)
        return passed

    def _black_hole(self) -> int:
        links = [link for link in self._links if link.open.is_set()]
        for link in links:
            link.open.clear()
        return len(links)

    def _end(self, link: _Link, reset: bool = False) -> None:
        if link not in self._links:
            return
        self._links.remove(link)
        for writer in (link.client, link.server):
            if writer is None:
                continue
            if reset:
                linger = struct.pack("ii", 1, 0)
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()
