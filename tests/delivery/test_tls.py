"""EMC over TLS: a certificate that is not EMC's is refused before anything is sent, and the operator hears of it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme
from deliver_process import delivering
from delivery_story import DOSSIER, SERVICE, LoggedStory, create, dossier, service, settings_in
from emc.simulator_process import RunningSimulator
from emc.simulator_process import simulator as running_simulator

from connector.delivery.status import ambiguous_attempts, status
from connector.observe import Fault, PushAnswered
from connector.settings import Settings

DAY = timedelta(days=1)


@contextmanager
def emc_with(certificate: trustme.LeafCert, directory: Path) -> Iterator[RunningSimulator]:
    pem = directory / "emc.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with running_simulator("--tls-cert", str(pem)) as running:
        yield running


def one_dossier(directory: Path, url: str, authority: trustme.CA) -> Settings:
    """A log with one event to push to an EMC that must be certified by this authority."""
    trusted = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    settings = settings_in(directory, url)
    settings = settings.model_copy(update={"emc": settings.emc.model_copy(update={"ca_file": trusted})})
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    log.transaction(create(DOSSIER, dossier(1)))
    log.close()
    return settings


def received(running: RunningSimulator, authority: trustme.CA) -> int:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.check_hostname = False
    with httpx.Client(verify=context, trust_env=False) as client:
        return len(running.received(client))


def test_a_certificate_of_the_configured_authority_is_taken(tmp_path: Path) -> None:
    """emc.ca_file names an authority that the system does not know."""
    authority = trustme.CA()
    with emc_with(authority.issue_cert("127.0.0.1"), tmp_path) as emc:
        settings = one_dossier(tmp_path, emc.api, authority)
        with delivering(settings) as run:
            run.until(lambda: bool(run.of(PushAnswered)))
        assert [each.outcome for each in run.of(PushAnswered)] == ["delivered"]
        assert received(emc, authority) == 1


@pytest.mark.parametrize("wrong", ["authority", "host", "expired", "not yet"])
def test_a_wrong_certificate_is_refused(tmp_path: Path, wrong: str) -> None:
    """Nothing is sent, so nothing is ambiguous and nothing parked; the event waits, and the operator is told once."""
    authority = trustme.CA()
    now = datetime.now(UTC)
    match wrong:
        case "authority":
            certificate = trustme.CA().issue_cert("127.0.0.1")
        case "host":
            certificate = authority.issue_cert("emc.example")
        case "expired":
            certificate = authority.issue_cert("127.0.0.1", not_before=now - 9 * DAY, not_after=now - DAY)
        case _:
            certificate = authority.issue_cert("127.0.0.1", not_before=now + DAY, not_after=now + 9 * DAY)
    with emc_with(certificate, tmp_path) as emc:
        settings = one_dossier(tmp_path, emc.api, authority)
        with delivering(settings) as run:
            run.until(lambda: len(run.of(PushAnswered)) >= 2)
    tried = run.of(PushAnswered)
    assert {(each.outcome, each.ambiguous) for each in tried} == {("retry", False)}
    assert all(each.reason.startswith("TLS: the certificate is refused: ") for each in tried)
    [fault] = run.of(Fault)
    assert (fault.operation, fault.fatal) == ("push to EMC", False)
    assert "emc.ca_file" in fault.mend
    assert ambiguous_attempts(settings) == []
    assert sum(partition.waiting for partition in status(settings)) == 1


def test_plain_http_behind_https_is_no_certificate(
    tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """An address that does not speak TLS gets nothing."""
    settings = one_dossier(tmp_path, simulator.api.replace("http://", "https://"), trustme.CA())
    with delivering(settings) as run:
        run.until(lambda: bool(run.of(PushAnswered)) and bool(run.of(Fault)))
    first = run.of(PushAnswered)[0]
    assert (first.outcome, first.ambiguous, first.reason[:5]) == ("retry", False, "TLS: ")
    assert simulator.received(client, before) == []
