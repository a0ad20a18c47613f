"""pg_hba.conf: read where the role may, and judged as the server will after its next reload."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from attached_database import Attached
from test_private_servers import server_with

from connector.finding import Severity
from connector.preflight.hba import Caller, Rule, check_hba

_OURS = Caller("motcua", "emc_cdc", "10.1.2.3", encrypted=True)


def rule(line: int, text: str) -> Rule:
    """A line `type database user [address netmask] method`, as pg_hba_file_rules shows it."""
    kind, databases, users, *rest = text.split()
    address, netmask = (rest[0], rest[1] if len(rest) == 3 else None) if len(rest) > 1 else (None, None)
    return Rule(line, kind, databases.split(","), users.split(","), address, netmask, rest[-1], None)


@pytest.fixture(scope="module")
def readable() -> Iterator[Attached]:
    """A server whose superuser lets the runtime role read the file."""
    with server_with({}) as attached:
        attached.by_dba(
            "GRANT SELECT ON pg_hba_file_rules TO emc_cdc;\nGRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO emc_cdc"
        )
        yield attached


def write(attached: Attached, change: str, where: int = 0) -> str:
    """Put a line into the file, at its beginning or in the place of everything. What it was before."""
    path = attached.server.data_dir / "pg_hba.conf"
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{change}\n{before}" if where == 0 else f"{change}\n", encoding="utf-8")
    return before


def test_it_cannot_be_seen_by_an_ordinary_role(attached: Attached) -> None:
    """Without the right it is said so, with the question that a superuser asks; that question is true."""
    (found,) = attached.told("PG-42")
    assert (found.severity, found.who) == (Severity.UNKNOWN, "dba")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        attached.run(found.mend[0], "emc_cdc")
    assert attached.by_dba(found.mend[0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("host mot_cua emc_cdc 127.0.0.1/32 reject", "line 1 will reject emc_cdc"),
        ("host all all all nonsense", "line 1 cannot be read"),
    ],
)
def test_what_the_next_reload_would_bring(readable: Attached, text: str, says: str) -> None:
    """An entry that would shut us out is found in the file before the server reads it, and gone after the mend."""
    before = write(readable, text)
    path = readable.server.data_dir / "pg_hba.conf"
    try:
        (found,) = readable.findings()
        assert (found.check, found.severity, found.who) == ("PG-42", Severity.WARNING, "dba")
        assert says in found.what
        # As a person does what it says: the line above, or the line corrected.
        line = found.mend[0].partition(": ")[2].replace("scram-sha-256", "trust")
        path.write_text(f"{line}\n{text}\n{before}" if line else before, encoding="utf-8")
        readable.by_dba(found.mend[1])
        assert readable.findings() == []
    finally:
        path.write_text(before, encoding="utf-8")
        readable.by_dba("SELECT pg_reload_conf()")


def test_an_entry_that_is_gone(readable: Attached) -> None:
    """When the file lets only others in, the line that is missing is written out."""
    before = write(readable, "host all postgres 127.0.0.1/32 trust", where=1)
    try:
        (found,) = readable.findings()
        assert found.what == "no entry will let emc_cdc into mot_cua after the next reload"
        line = 'host "mot_cua" "emc_cdc" 127.0.0.1/32 scram-sha-256'
        assert found.mend[0] == f"-- add to pg_hba.conf, at its end: {line}"
        write(readable, line.replace("scram-sha-256", "trust"))
        assert readable.findings() == []
    finally:
        (readable.server.data_dir / "pg_hba.conf").write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("lines", "severity"),
    [
        (["host all all all scram-sha-256"], Severity.OK),
        (["hostssl motcua emc_cdc 10.1.0.0 255.255.0.0 scram-sha-256"], Severity.OK),
        (["hostnossl motcua emc_cdc 10.1.0.0 255.255.0.0 scram-sha-256"], Severity.WARNING),
        (["host motcua emc_cdc 10.2.0.0 255.255.0.0 scram-sha-256"], Severity.WARNING),
        (["host motcua emc_cdc fe80:: ffff:: scram-sha-256"], Severity.WARNING),
        (["host replication emc_cdc all scram-sha-256"], Severity.WARNING),
        (["host motcua owner all scram-sha-256"], Severity.WARNING),
        (["local all all trust"], Severity.WARNING),
        (["host motcua all all reject", "host all all all scram-sha-256"], Severity.WARNING),
        (["host khac all all reject", "host all all all scram-sha-256"], Severity.OK),
        (["host all +nhom all reject"], Severity.OK),
        (["host all all samenet scram-sha-256"], Severity.OK),
        (["host all all may.tinh.vn scram-sha-256"], Severity.OK),
        (["host samerole all all scram-sha-256"], Severity.OK),
        (["hostgssenc all all all gss"], Severity.OK),
        ([], Severity.WARNING),
    ],
)
def test_the_first_entry_that_fits_decides(lines: list[str], severity: Severity) -> None:
    """Pure: type, database, role and address as the server compares them; what cannot be judged is no complaint."""
    rules = [rule(number, text) for number, text in enumerate(lines, 1)]
    assert check_hba(_OURS, rules).severity is severity


def test_over_a_unix_socket() -> None:
    """Pure: only `local` entries count, and the one proposed is of that kind."""
    caller = Caller("motcua", "emc_cdc", None, encrypted=False)
    assert check_hba(caller, [rule(1, "local all all peer")]).severity is Severity.OK
    missing = check_hba(caller, [rule(1, "host all all all trust")])
    assert missing.mend[0].endswith('local "motcua" "emc_cdc" peer')
