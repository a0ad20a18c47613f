"""A real HTTP(S) server that follows the Confluent Schema Registry REST API, for tests; no registry can be had here.

It keeps the API's documented answers (40401, 40403, 409, 50001) and checks compatibility (BACKWARD)
on the columns' types. `storm` and `always` answer with a status instead; `asked` tells what was asked.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import trustme

_TYPE = "application/vnd.schemaregistry.v1+json"


@dataclass
class RegistryServer:
    """What is registered, how it behaves, and what it was asked."""

    url: str = ""
    schemas: dict[int, str] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    user: tuple[str, str] | None = None
    level: str = "BACKWARD"
    storm: list[int] = field(default_factory=list)
    """Statuses of the next answers to POST …/versions of /subjects."""
    always: int | None = None
    """A status for every answer, while it is set."""
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, schema: str | None) -> tuple[int, Any]:
        match method, [unquote(part) for part in path.strip("/").split("/")]:
            case "POST", ["subjects", subject, "versions"]:
                return self._register(subject, schema or "")
            case "GET", ["subjects", subject, "versions", "latest"]:
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": "Subject not found"}
                number = self.subjects[subject][-1]
                version = len(self.subjects[subject])
                return 200, {"subject": subject, "version": version, "id": number, "schema": self.schemas[number]}
            case "GET", ["schemas", "ids", number]:
                if int(number) not in self.schemas:
                    return 404, {"error_code": 40403, "message": "Schema not found"}
                return 200, {"schema": self.schemas[int(number)]}
            case "GET", ["config"]:
                return 200, {"compatibilityLevel": self.level}
            case "POST", ["compatibility", "subjects", subject, "versions"]:
                return 200, {"is_compatible": self._compatible(subject, schema or "")}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _register(self, subject: str, schema: str) -> tuple[int, Any]:
        if self.storm:
            status = self.storm.pop(0)
            return status, {"error_code": 50001 if status >= 500 else status, "message": "storm"}
        if not self._compatible(subject, schema):
            return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
        number = next((n for n, text in self.schemas.items() if text == schema), len(self.schemas) + 1)
        self.schemas[number] = schema
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return 200, {"id": number}

    def _compatible(self, subject: str, schema: str) -> bool:
        """BACKWARD: the new schema reads what the last one wrote."""
        versions = self.subjects.get(subject)
        if not versions or self.level == "NONE":
            return True
        old, new = _row(self.schemas[versions[-1]]), _row(schema)
        return all(_reads(old.get(name), each) for name, each in new.items())


def _row(schema: str) -> dict[str, Any]:
    for each in json.loads(schema)["fields"]:
        if each["name"] == "before":
            return {column["name"]: column for column in each["type"][1]["fields"]}
    return {}


def _reads(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    if old is None:
        return "default" in new
    writers = old["type"] if isinstance(old["type"], list) else [old["type"]]
    readers = new["type"] if isinstance(new["type"], list) else [new["type"]]
    return all(writer in readers or (writer == "int" and "long" in readers) for writer in writers)


@contextmanager
def registry_server(certificate: trustme.LeafCert | None = None) -> Iterator[RegistryServer]:
    """A running registry on loopback; over TLS with a certificate."""
    registry = RegistryServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            registry.asked.append(f"{self.command} {unquote(path)}")
            status, answer = 200, None
            if registry.user is not None:
                expected = base64.b64encode(":".join(registry.user).encode()).decode()
                if self.headers.get("Authorization") != f"Basic {expected}":
                    status, answer = 401, {"error_code": 401, "message": "Unauthorized"}
            if answer is None and registry.always is not None:
                status, answer = registry.always, {"error_code": registry.always, "message": "storm"}
            if answer is None:
                status, answer = registry.answer(self.command, path, json.loads(body)["schema"] if body else None)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", _TYPE)
            if 300 <= status < 400:
                self.send_header("Location", f"{registry.url}/elsewhere")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that refuses the certificate is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        # The handshake belongs to the request's thread, not to the accepting one.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    registry.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
