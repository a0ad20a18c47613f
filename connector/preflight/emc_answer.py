"""What answers at EMC's address, asked without sending an event.

| check | asks |
|---|---|
| EMC-C3 | an API answers at emc.url, and no redirect, portal page or failing proxy |

Contract: one OPTIONS request without a body and without `emc.headers`, which asks a server what it takes and does
nothing (RFC 9110, section 9.3.7); no event is made up and no secret is sent. The certificate is verified as the push
verifies it. It takes at most `timeout` for each step, and reads no more than the answer's head. Servers are free in how
they answer OPTIONS, so nothing here is an error: the push judges EMC's real answers.
"""

from __future__ import annotations

import socket
import time
from urllib.parse import SplitResult, quote, urlsplit

from connector.finding import Finding, Severity, ok
from connector.preflight.emc import SUBJECT, Unreachable, connect
from connector.settings import EmcSettings

_LOOK = "look at what answers there: curl -v -X OPTIONS {url}"
_LONGEST_HEAD = 16 * 1024
_NOT_FOUND = 404
_PROXY = 407


def check_answer(settings: EmcSettings, timeout: float = 5.0) -> Finding:
    """EMC-C3. For an address that `check_emc` has nothing against."""
    parts = urlsplit(settings.url)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    target = f"{path}?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else path
    host = _host(parts)
    request = f"OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: emc-cdc check\r\nConnection: close\r\n\r\n"
    try:
        with connect(settings, timeout) as connection:
            connection.sendall(request.encode("ascii"))
            head = _head(connection, time.monotonic() + timeout)
    except TimeoutError:
        return _warning("it does not answer OPTIONS in time", _LOOK.format(url=f"{parts.scheme}://{host}{path}"))
    except (Unreachable, OSError) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return _warning(f"it does not answer OPTIONS: {cause}", _LOOK.format(url=f"{parts.scheme}://{host}{path}"))
    if not head:
        return _warning("it ends the connection without an answer", _LOOK.format(url=f"{parts.scheme}://{host}{path}"))
    status, headers = _parsed(head)
    if status is None:
        return _warning(
            "what answers is not HTTP", "see that emc.url names EMC itself, on its port for https, and no other service"
        )
    return _judged(status, headers, path)


def _judged(status: int, headers: dict[str, str], path: str) -> Finding:
    html = headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html"
    if 300 <= status < 400:
        parts = urlsplit(headers.get("location", ""))
        target = f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}" if parts.netloc else parts.path
        mend = f"emc.url: {target}  (if that is EMC)" if parts.netloc else "set emc.url to EMC's real address"
        return _warning(f"it redirects to {target or 'nowhere'} (HTTP {status}), and a push follows no redirect", mend)
    if 200 <= status < 300 and html:
        return _warning(
            f"a page in HTML answers (HTTP {status}), as a portal's or proxy's does, and EMC's API does not",
            "see that emc.url is the API's address, and that no proxy or sign-in page stands in between",
        )
    if status == _NOT_FOUND:
        return _warning(f"nothing is known there of {path} (HTTP 404)", "compare the path of emc.url with EMC's letter")
    if status == _PROXY:
        return _warning("a proxy wants a password (HTTP 407)", "let this machine reach EMC directly")
    if status >= 500 and status != 501:  # Not Implemented: it is asked something that it does not know
        return _warning(f"it fails now (HTTP {status})", "nothing to do: events wait in the outbox; look again later")
    return ok("EMC-C3", SUBJECT, f"an API answers (HTTP {status} to OPTIONS; no event was sent)")


def _host(parts: SplitResult) -> str:
    name = parts.hostname or ""
    name = f"[{name}]" if ":" in name else name.encode("idna").decode("ascii")
    return name if parts.port is None else f"{name}:{parts.port}"


def _head(connection: socket.socket, deadline: float) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read and len(read) < _LONGEST_HEAD:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(4096)
        if not part:
            break
        read += part
    return read.partition(b"\r\n\r\n")[0]


def _parsed(head: bytes) -> tuple[int | None, dict[str, str]]:
    """Status and headers by lower-case name; no status where it is not HTTP."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or len(code) < 3 or not (code.isascii() and code.isdecimal()):
        return None, {}
    fields = (line.partition(":") for line in lines)
    return int(code), {name.strip().lower(): value.strip() for name, _, value in fields}


def _warning(what: str, mend: str) -> Finding:
    return Finding("EMC-C3", Severity.WARNING, SUBJECT, what, (mend,), "operator")
