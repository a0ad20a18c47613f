"""`emc-cdc simulator`: a strict EMC on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError

from connector.cli.terminal import JsonOption
from connector.emc.simulator.application import wrong_faults
from connector.emc.simulator.faults import FAULTS, Fault
from connector.emc.simulator.server import Options, serve
from connector.errors import ConfigError


def simulator(
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:8043",
    path: Annotated[str, typer.Option(help="Path of the API.")] = "/TrackingMCDT",
    keep: Annotated[
        Path | None, typer.Option(help="Keep what was received in this file (JSON lines) and read it back on start.")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="What is to go wrong: a YAML or JSON list, see docs/emc.md.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same faults by rate.")] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate: serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key, unless it stands in the same file.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Run a strict EMC: checks every request against the guide, keeps it, shows it on a page.

    The page is at /, what was received at /received?after=N; POST a JSON list to /faults to let it fail.
    Ends in order at SIGTERM or Ctrl-C.

    Example: emc-cdc simulator --listen 127.0.0.1:8043 --keep received.jsonl
    """
    host, port = _address(listen)
    if not path.startswith("/") or path in ("/", "/received", "/faults", "/healthz"):
        raise ConfigError("start the simulator", "--path", "this path cannot be the API's", "e.g. /TrackingMCDT")
    if tls_key is not None and tls_cert is None:
        raise ConfigError("start the simulator", "--tls-key", "there is no certificate", "give it with --tls-cert")

    def announce(url: str) -> None:
        if json_output:
            sys.stdout.write(json.dumps({"listening": url}) + "\n")
        else:
            sys.stdout.write(f"EMC mô phỏng đang chạy: {url}/  (API: POST {url}{path}; Ctrl-C để dừng)\n")
        sys.stdout.flush()

    serve(Options(host, port, path, keep, _script(faults), seed, tls_cert, tls_key), announce)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError("start the simulator", "--listen", "this is not HOST:PORT", "e.g. 127.0.0.1:8043")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _script(file: Path | None) -> tuple[Fault, ...]:
    if file is None:
        return ()
    try:
        return tuple(FAULTS.validate_python(yaml.safe_load(file.read_bytes())))
    except OSError as error:
        cause = error.strerror or str(error)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        cause = "this is not YAML" + (f" (line {mark.line + 1})" if mark is not None else "")
    except ValidationError as error:
        cause = "\n".join(wrong_faults(error))
    raise ConfigError(
        "read the scripted faults",
        str(file),
        cause,
        "write a list such as: [{kind: status, status: 503, count: 5}, {kind: drop_answer, rate: 0.1}]",
    )
