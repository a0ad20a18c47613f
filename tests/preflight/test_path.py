"""The way to the server: a real PgBouncer is found, a replication connection is made, times without zone are told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from attached_database import SELECTION, Attached
from pgbouncer import pooling
from plugins.proxy import Cut, Proxy
from pydantic import SecretStr
from typer.testing import CliRunner

from connector.change.selection import Role, Selection, TableSelection
from connector.cli import app
from connector.errors import SourceError
from connector.finding import Finding, Severity
from connector.preflight.postgres import check_source
from connector.settings import SourceSettings
from connector.source.connection import replicate


def through(attached: Attached, port: int) -> SourceSettings:
    """The source's settings with another port."""
    dsn = attached.settings.source.dsn.get_secret_value().replace(f"port={attached.server.port}", f"port={port}")
    return attached.settings.source.model_copy(update={"dsn": SecretStr(dsn)})


def findings(attached: Attached, source: SourceSettings) -> list[Finding]:
    settings = attached.settings.model_copy(update={"source": source})
    found = check_source(settings, attached.selection, watch=0.0).findings
    return [one for one in found if one.severity in (Severity.WARNING, Severity.ERROR)]


def test_a_pooler_that_drops_what_it_does_not_know(attached: Attached) -> None:
    """PgBouncer that ignores startup parameters: another process answers, settings are lost; the mend is the server."""
    with pooling(attached.server, "options,extra_float_digits") as port:
        (found,) = findings(attached, through(attached, port))
    assert (found.check, found.severity, found.who) == ("PG-40", Severity.ERROR, "operator")
    assert "a connection pooler" in found.what
    assert "and process" in found.what
    assert "are not in force" in found.what
    assert found.mend == (
        f"source.dsn: PostgreSQL's own address, which it says is host=127.0.0.1 port={attached.server.port}",
    )
    assert findings(attached, through(attached, attached.server.port)) == []


def test_a_pooler_that_refuses(attached: Attached) -> None:
    """PgBouncer at its defaults refuses the connection; that is told as the pooler it is."""
    with pooling(attached.server) as port:
        (found,) = findings(attached, through(attached, port))
    assert (found.check, found.severity) == ("PG-01", Severity.ERROR)
    assert "a connection pooler" in found.what
    assert "of PostgreSQL itself" in found.mend[0]


def test_no_replication_through_a_pooler(attached: Attached) -> None:
    """Capture's own connection through PgBouncer says the same, and how to go on."""
    with pooling(attached.server, "options,extra_float_digits") as port, pytest.raises(SourceError) as refused:
        replicate(through(attached, port), attached.version * 10000)
    assert "a connection pooler" in refused.value.cause


def test_setup_is_not_applied_through_a_pooler(attached: Attached, tmp_path: Path) -> None:
    """A pooler that drops the owner's lock timeout could queue the application up behind a lock: nothing is applied."""
    config = tmp_path / "emc-cdc.yml"
    config.write_text(
        f"name: thu\nsource: {{dsn: '{attached.settings.source.dsn.get_secret_value()}'}}\n"
        "mapping: {extends: preset:one-stop-generic, SiteId: 327}\n",
        encoding="utf-8",
    )
    with pooling(attached.server, "options,extra_float_digits") as port:
        dsn = f"host=127.0.0.1 port={port} user=owner dbname={attached.database}"
        done = CliRunner().invoke(app, ["setup", "--apply", "--owner-dsn", dsn, "--config", str(config)])
    assert isinstance(done.exception, SourceError)
    assert done.exception.subject == "--owner-dsn"
    assert "a connection pooler" in done.exception.cause


def test_a_replication_connection_is_made(attached: Attached) -> None:
    """The finding says which system answered; no slot and no connection is left."""
    (found,) = attached.told("PG-41")
    (system,) = attached.by_dba("SELECT system_identifier::text FROM pg_control_system()")[0]
    assert found.what == f"a replication connection was made (system {system}, timeline 1)"
    assert attached.by_dba("SELECT count(*) FROM pg_replication_slots") == [(0,)]


def test_a_way_that_lets_no_replication_through(attached: Attached) -> None:
    """Only trying tells: where ordinary connections pass and the replication connection is cut, that is the finding."""
    with Proxy(attached.server.port, lambda number: Cut(0) if number == 1 else None) as proxy:
        (found,) = findings(attached, through(attached, proxy.port))
        assert proxy.cuts == 1
    assert (found.check, found.severity) == ("PG-41", Severity.ERROR)
    with Proxy(attached.server.port) as proxy:
        assert findings(attached, through(attached, proxy.port)) == []


@pytest.mark.parametrize(("zone", "severity"), [("Asia/Ho_Chi_Minh", Severity.OK), ("America/New_York", Severity.NOTE)])
def test_times_without_zone_are_told(attached: Attached, zone: str, severity: Severity) -> None:
    """Mapped columns without zone are named with the zone that sessions begin with, the role's own if it has one."""
    attached.by_dba(f"ALTER DATABASE {attached.database} SET TimeZone = '{zone}'")
    (found,) = attached.told("PG-43")
    assert (found.severity, found.subject) == (Severity.OK, f"time zone {zone}")
    attached.by_owner(
        "ALTER TABLE motcua.thu_tuc ADD cap_nhat timestamp(3), ADD co_mui timestamptz;\n"
        "GRANT SELECT (cap_nhat, co_mui) ON motcua.thu_tuc TO emc_cdc"
    )
    columns = ("ma", "ten", "cap_nhat", "co_mui")
    attached.selection = Selection(
        (*SELECTION.tables[:2], TableSelection("motcua", "thu_tuc", Role.REFERENCE, columns))
    )
    (found,) = attached.told("PG-43")
    assert found.severity is severity
    assert "motcua.thu_tuc.cap_nhat" in found.what
    assert "co_mui" not in found.what


def test_a_server_that_is_away(attached: Attached) -> None:
    """A port where nobody listens is one finding."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (found,) = findings(attached, through(attached, port))
    assert found.check == "PG-01"
