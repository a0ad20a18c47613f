"""A peer that does with a connection whatever a test says, and counts the requests it has read."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable

Handler = Callable[["Peer", socket.socket], None]


class Peer:
    """Listens on a free port of loopback; each connection is `handler`'s, on a thread of its own.

    With `tls`, connections are TLS. `requests` has what was read, `connections` how many were accepted.
    """

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = threading.Event()
        """The test is over: whoever waits may stop."""
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}/TrackingMCDT"

    def read_request(self, connection: socket.socket) -> bytes:
        """Read one whole request with its body."""
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._some(connection)
        head, _, body = read.partition(b"\r\n\r\n")
        fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
        size = next(int(value) for name, _, value in fields if name.lower() == b"content-length")
        while len(body) < size:
            body += self._some(connection)
        self.requests.append(head + b"\r\n\r\n" + body)
        return body

    @staticmethod
    def _some(connection: socket.socket) -> bytes:
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        return part

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._handler(self, connection)
        connection.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()


def reset(connection: socket.socket) -> None:
    """Cut the connection with a RST, as a dying host does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answering(answer: bytes) -> Handler:
    """Reads requests and gives this answer to each, over connections that stay open."""

    def handle(peer: Peer, connection: socket.socket) -> None:
        while True:
            peer.read_request(connection)
            connection.sendall(answer)

    return handle


OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"success":true}'
