"""`emc-cdc simulator`: a strict EMC on this machine."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console

from connector.cli.terminal import JsonOption, stop_on_signals
from connector.emc.simulator.faults import FAULTS, Fault
from connector.emc.simulator.server import Simulator, bind, serve
from connector.errors import ConfigError


def simulator(
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:8043",
    path: Annotated[str, typer.Option(help="Path of the API.")] = "/TrackingMCDT",
    keep: Annotated[Path | None, typer.Option(help="Keep what was received in this file (JSON lines).")] = None,
    faults: Annotated[Path | None, typer.Option(help="Scripted faults, a YAML or JSON list (docs/emc.md).")] = None,
    seed: Annotated[int, typer.Option(help="Makes random faults repeatable.")] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate: serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key of the certificate.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Run a strict EMC: checks every request against the guide, keeps it, shows it on a page.

    Faults can be set while it runs: POST a JSON list to /faults. What was received: GET /received?after=N.

    Example: emc-cdc simulator --listen 127.0.0.1:8043 --keep received.jsonl
    """
    for file in (tls_cert, tls_key):
        if file is not None and not file.is_file():
            raise ConfigError("start the simulator", str(file), "there is no such file", "name a PEM file")
    emc = Simulator(path, keep, seed, _faults(faults))
    listening = bind(listen)
    host, port = listening.getsockname()[:2]
    url = f"{'https' if tls_cert else 'http'}://{host}:{port}"
    if json_output:
        sys.stdout.write(json.dumps({"listening": url, "at": time.time()}) + "\n")
        sys.stdout.flush()
    else:
        Console().print(f"EMC mô phỏng: [bold]{url}/[/]   POST {url}{path}   (Ctrl-C để dừng)", highlight=False)
    with stop_on_signals() as stop:
        serve(emc, listening, tls_cert, tls_key, stop)


def _faults(file: Path | None) -> list[Fault]:
    if file is None:
        return []
    try:
        return FAULTS.validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(
            "read the scripted faults",
            str(file),
            str(error),
            "write a list such as [{kind: status, status: 503, count: 5}]",
        ) from None
