"""The simulator over real HTTP and TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from emc_events import RECEIVED
from simulator_process import PATIENCE, RunningSimulator, refused
from simulator_process import simulator as running_simulator

from connector.cli.simulator import simulator as command
from connector.emc.event import EmcEvent
from connector.emc.simulator.server import Options, listen
from connector.emc.wire import encode
from connector.errors import ConnectorError
from connector.settings import EmcSettings

FORM = EmcSettings()
JSON = EmcSettings(encoding="json", key_case="camel")
WRONG = replace(RECEIVED, Level=0)


def post(client: httpx.Client, url: str, event: EmcEvent = RECEIVED, settings: EmcSettings = FORM) -> httpx.Response:
    body = encode(event, settings)
    return client.post(url, content=body.content, headers={"Content-Type": body.content_type})


def test_what_the_guide_allows_is_accepted_and_kept(
    simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Form and JSON, each kept with its arrival, parameters, verdict and answer."""
    began = time.time()
    for settings in (FORM, JSON):
        answer = post(client, simulator.api, settings=settings)
        assert (answer.status_code, answer.json()["success"]) == (200, True)
    kept = simulator.received(client, before)
    assert [record["id"] for record in kept] == [before + 1, before + 2]
    for record in kept:
        assert began <= record["at"] <= time.time()
        assert record["verdict"] == "accepted"
        assert record["answer"] == {"status": 200, "lost": False}
        assert (record["faults"], record["warnings"], record["scripted"]) == ([], [], None)
        assert record["parameters"] == {
            "CodeProfile": "000.00.11.H56-191203-1508",
            "SiteId": 327,
            "CodeTTHC": "2.000082",
            "NameTTHC": "Cấp giấy bưu chính",
            "Status": 1,
            "FormsReception": 1,
            "FormsPayments": 0,
            "Level": 4,
            "IsFromDVCQG": 0,
            "IsDVCBC": 0,
            "Data": "",
            "User": {"ID_QG": "cd-0001", "TYPE": 2, "LOCATION": "000.00.02.H10"},
        }


def test_what_the_guide_does_not_allow_is_refused_by_its_rule(
    simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """400, the rule's id and what it says in both languages."""
    answer = post(client, simulator.api, WRONG)
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    [fault] = answer.json()["faults"]
    assert (fault["rule"], fault["parameter"]) == ("EMC-12", "FormsReception")
    assert fault["vi"]
    assert fault["en"]
    [record] = simulator.received(client, before)
    assert (record["verdict"], record["faults"]) == ("refused", [fault])
    assert record["answer"] == {"status": 400, "lost": False}


def test_a_warning_goes_along_with_the_answer(simulator: RunningSimulator, client: httpx.Client) -> None:
    """An odd dossier number is accepted, and told of."""
    answer = post(client, simulator.api, replace(RECEIVED, CodeProfile="12/2026"))
    assert answer.status_code == 200
    assert [warning["rule"] for warning in answer.json()["warnings"]] == ["EMC-02"]


def test_only_posts_to_the_path_are_the_api(simulator: RunningSimulator, client: httpx.Client, before: int) -> None:
    """A GET is refused and kept, a slash too many is not found (and not redirected)."""
    assert client.get(simulator.api).status_code == 405
    assert post(client, f"{simulator.api}/").status_code == 404
    [record] = simulator.received(client, before)
    assert [fault["rule"] for fault in record["faults"]] == ["REQ-01"]


def test_a_body_without_end_is_refused(simulator: RunningSimulator, client: httpx.Client) -> None:
    """Past the limit nothing more is read."""
    answer = client.post(
        simulator.api, content=b"a" * 200_000, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert [fault["rule"] for fault in answer.json()["faults"]] == ["REQ-13"]


def test_programs_ask_for_what_is_new(simulator: RunningSimulator, client: httpx.Client, before: int) -> None:
    """`after` is the last id they know; nonsense is refused."""
    post(client, simulator.api)
    assert len(simulator.received(client, before)) == 1
    assert simulator.received(client, before + 1) == []
    for nonsense in ("x", "-1", "1.5", "٣", "9" * 5000):
        assert client.get(f"{simulator.url}/received", params={"after": nonsense}).status_code == 400


def test_a_status_is_answered_as_scripted(simulator: RunningSimulator, client: httpx.Client, before: int) -> None:
    """503, 429 with both forms of Retry-After, 400; the event is not taken, and kept as failed."""
    simulator.set_faults(
        client,
        {"kind": "status", "status": 503, "count": 1},
        {"kind": "status", "status": 429, "retry_after": 7, "count": 1},
        {"kind": "status", "status": 429, "retry_after_date": 90, "count": 1},
        {"kind": "status", "status": 400, "match": RECEIVED.CodeProfile, "count": 1},
    )
    answers = [post(client, simulator.api) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [503, 429, 429, 400, 200]
    assert "retry-after" not in answers[0].headers
    assert answers[1].headers["retry-after"] == "7"
    ahead = parsedate_to_datetime(answers[2].headers["retry-after"]).timestamp() - time.time()
    assert 0 < ahead <= 90
    kept = simulator.received(client, before)
    assert [record["verdict"] for record in kept] == [*["failed"] * 4, "accepted"]
    assert [record["answer"]["status"] for record in kept] == [503, 429, 429, 400, 200]
    assert kept[0]["parameters"]["CodeProfile"] == RECEIVED.CodeProfile


def test_a_client_that_follows_a_redirect_is_seen(
    simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """302 leads to the API itself, where the GET is refused and kept."""
    simulator.set_faults(client, {"kind": "status", "status": 302, "count": 1})
    body = encode(RECEIVED, FORM)
    answer = client.post(
        simulator.api, content=body.content, headers={"Content-Type": body.content_type}, follow_redirects=True
    )
    assert ([each.status_code for each in answer.history], answer.status_code) == ([302], 405)
    assert [record["verdict"] for record in simulator.received(client, before)] == ["failed", "refused"]


def test_a_dropped_request_is_not_taken(simulator: RunningSimulator, client: httpx.Client, before: int) -> None:
    """The connection is reset, nothing was accepted, the next request is well."""
    simulator.set_faults(client, {"kind": "drop_before", "count": 1})
    with pytest.raises(httpx.ReadError):
        post(client, simulator.api)
    assert post(client, simulator.api).status_code == 200
    assert [(record["verdict"], record["answer"]["lost"]) for record in simulator.received(client, before)] == [
        ("failed", False),
        ("accepted", False),
    ]


def test_a_dropped_answer_leaves_the_event_taken(
    simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """The connection ends without an answer, the event was accepted; said again it is accepted again."""
    simulator.set_faults(client, {"kind": "drop_answer", "count": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        post(client, simulator.api)
    assert post(client, simulator.api).status_code == 200
    kept = simulator.received(client, before)
    assert [(record["verdict"], record["scripted"]) for record in kept] == [
        ("accepted", "drop_answer"),
        ("accepted", None),
    ]
    assert [record["answer"] for record in kept] == [
        {"status": None, "lost": True},
        {"status": 200, "lost": False},
    ]


def test_a_refusal_can_be_lost_too(simulator: RunningSimulator, client: httpx.Client, before: int) -> None:
    """It is no accepted event, whatever became of its answer."""
    simulator.set_faults(client, {"kind": "drop_answer", "count": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        post(client, simulator.api, WRONG)
    [record] = simulator.received(client, before)
    assert (record["verdict"], record["answer"]) == ("refused", {"status": None, "lost": False})


def test_an_answer_may_be_garbage(simulator: RunningSimulator, client: httpx.Client, before: int) -> None:
    """200 with HTML, then 200 with a JSON body that says failure; neither took the event."""
    simulator.set_faults(client, {"kind": "garbage", "count": 1}, {"kind": "failure_body", "count": 1})
    page, failure = post(client, simulator.api), post(client, simulator.api)
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert (failure.status_code, failure.json()["success"]) == (200, False)
    assert [record["verdict"] for record in simulator.received(client, before)] == ["failed", "failed"]


def test_a_delay_holds_the_request(simulator: RunningSimulator, client: httpx.Client) -> None:
    """It is answered after the delay, not before."""
    simulator.set_faults(client, {"kind": "delay", "seconds": 0.3, "count": 1})
    began = time.monotonic()
    assert post(client, simulator.api).status_code == 200
    assert time.monotonic() - began >= 0.3


def test_a_client_that_gives_up_leaves_nothing_taken(
    simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """A held request is dropped when its client goes away."""
    simulator.set_faults(client, {"kind": "delay", "seconds": 600.0, "count": 1})
    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.2, trust_env=False) as hasty:
        post(hasty, simulator.api)
    deadline = time.monotonic() + PATIENCE
    while not (kept := simulator.received(client, before)):
        assert time.monotonic() < deadline
    assert [(record["verdict"], record["scripted"]) for record in kept] == [("failed", "delay")]


def test_a_held_request_holds_up_no_other(simulator: RunningSimulator, client: httpx.Client) -> None:
    """Another dossier is answered while the first is held."""
    simulator.set_faults(client, {"kind": "delay", "seconds": 600.0, "match": "held"})

    def held() -> None:
        with httpx.Client(timeout=0.5, trust_env=False) as hasty, pytest.raises(httpx.ReadTimeout):
            post(hasty, simulator.api, replace(RECEIVED, CodeProfile="held"))

    thread = threading.Thread(target=held)
    thread.start()
    assert post(client, simulator.api).status_code == 200
    thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"not json", "the list"),
        (b"{}", "the list"),
        (b'[{"kind": "garbage"}, {"kind": "explode"}]', "1.kind"),
        (b'[{"kind": "status"}]', "0"),
    ],
)
def test_a_script_with_a_mistake_changes_nothing(
    simulator: RunningSimulator, client: httpx.Client, body: bytes, where: str
) -> None:
    """400 names the place, and the faults that were set stay."""
    simulator.set_faults(client, {"kind": "status", "status": 503})
    answer = client.post(f"{simulator.url}/faults", content=body)
    assert answer.status_code == 400
    assert [error.split(":")[0] for error in answer.json()["errors"]] == [where]
    assert post(client, simulator.api).status_code == 503


class Table(HTMLParser):
    """The rows of the page's table, as the text of their cells, and everything that loads or runs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.foreign: list[str] = []
        self.filter = ""
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        self._inside = tag == "td" or (self._inside and tag not in ("tr", "table"))
        if tag == "input":
            self.filter = str(dict(attrs)["value"])
        if tag in ("img", "link", "iframe", "b"):
            self.foreign.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def shown(client: httpx.Client, url: str, **filters: str) -> list[list[str]]:
    answer = client.get(f"{url}/", params=filters)
    assert answer.status_code == 200
    return [row for row in Table(answer.text).rows if row]


def test_the_page_lists_what_came_newest_first(simulator: RunningSimulator, client: httpx.Client) -> None:
    """In the words of the guide's values, with the faults of a refused request."""
    paid = replace(RECEIVED, CodeProfile="trang-1", Status=3, IsDVCBC=1, FormsPayments=2)
    post(client, simulator.api, paid)
    post(client, simulator.api, replace(WRONG, CodeProfile="trang-2"))
    wrong, result = shown(client, simulator.url)[:2]
    assert result[1:6] == [
        "trang-1",
        "Trả kết quả",
        "Cấp giấy bưu chính2.000082 · Toàn trình",
        "Trực tuyếnThanh toán trực tiếpTrả qua VNPost",
        "Cá nhân000.00.02.H10",
    ]
    assert result[6].startswith("Đã nhận")
    assert wrong[1] == "trang-2"
    assert "Từ chối" in wrong[6]
    assert "EMC-12" in wrong[6]


def test_the_page_filters_by_dossier_and_verdict(simulator: RunningSimulator, client: httpx.Client) -> None:
    """A part of the number, in any case, and one verdict."""
    post(client, simulator.api, replace(RECEIVED, CodeProfile="LỌC-1"))
    post(client, simulator.api, replace(WRONG, CodeProfile="LỌC-1"))
    post(client, simulator.api, replace(RECEIVED, CodeProfile="LỌC-2"))
    assert [row[1] for row in shown(client, simulator.url, dossier="lọc")] == ["LỌC-2", "LỌC-1", "LỌC-1"]
    assert [row[1] for row in shown(client, simulator.url, dossier="LỌC-1", verdict="accepted")] == ["LỌC-1"]
    assert shown(client, simulator.url, dossier="LỌC-2", verdict="refused") == []
    assert [row[1] for row in shown(client, simulator.url, dossier="LỌC-2", verdict="nonsense")] == ["LỌC-2"]


def test_the_page_shows_text_as_text(simulator: RunningSimulator, client: httpx.Client) -> None:
    """What a request or a filter holds is never markup, and the page may run its own script only."""
    evil = "<img src=x onerror=alert(1)>\"'<b>"
    post(client, simulator.api, replace(RECEIVED, CodeProfile=evil, NameTTHC=evil))
    simulator.set_faults(client, {"kind": "garbage", "match": evil})
    answer = client.get(f"{simulator.url}/", params={"dossier": evil})
    assert (Table(answer.text).foreign, Table(answer.text).filter) == ([], evil)
    assert shown(client, simulator.url, dossier=evil)[0][1] == evil
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_the_page_tells_of_scripted_faults(simulator: RunningSimulator, client: httpx.Client) -> None:
    """So that nobody takes them for real ones."""
    simulator.set_faults(client, {"kind": "status", "status": 503, "rate": 0.25})
    page = client.get(simulator.url).text
    assert "Đang giả lập sự cố: trả lỗi HTTP 503, 25% số yêu cầu." in page
    simulator.set_faults(client)
    assert "Đang giả lập sự cố" not in client.get(simulator.url).text


def test_it_speaks_tls(tmp_path: Path) -> None:
    """A client that trusts the certificate is served, another refuses."""
    authority = trustme.CA()
    chain, key, trusted = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    authority.cert_pem.write_to_path(trusted)
    with running_simulator("--tls-cert", str(chain), "--tls-key", str(key)) as running:
        assert running.url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=ssl.create_default_context(cafile=str(trusted)), trust_env=False) as client:
            assert post(client, running.api).status_code == 200
            for kind in ("drop_answer", "drop_before"):
                running.set_faults(client, {"kind": kind, "count": 1})
                with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                    post(client, running.api)
            assert [record["verdict"] for record in running.received(client)] == ["accepted", "accepted", "failed"]
        with httpx.Client(trust_env=False) as doubtful, pytest.raises(httpx.ConnectError):
            post(doubtful, running.api)


def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    """kill -9, then a start with the same file: every answered request is there, ids go on."""
    file = tmp_path / "received.jsonl"
    with running_simulator("--keep", str(file)) as running, httpx.Client(trust_env=False) as client:
        for event in (RECEIVED, WRONG):
            post(client, running.api, event)
        running.set_faults(client, {"kind": "drop_answer", "count": 1})
        with pytest.raises(httpx.RemoteProtocolError):
            post(client, running.api)
        kept = running.received(client)
        running.process.kill()
        running.process.wait(PATIENCE)
    with file.open("ab") as torn:
        torn.write(b'{"id": 4, "at"')
    with running_simulator("--keep", str(file)) as running, httpx.Client(trust_env=False) as client:
        assert running.received(client) == kept
        assert post(client, running.api).json()["id"] == 4
        page = client.get(running.url).text
        assert "<dt>Nhận nhưng mất trả lời</dt><dd>1</dd>" in page
    with running_simulator("--keep", str(file)) as running, httpx.Client(trust_env=False) as client:
        assert [record["id"] for record in running.received(client)] == [1, 2, 3, 4]


def test_it_ends_in_order(tmp_path: Path) -> None:
    """SIGTERM while a request is under way: the request is answered, the exit code is 0."""
    script = tmp_path / "faults.yml"
    script.write_text("[{kind: delay, seconds: 1, count: 1}]", encoding="utf-8")
    answers: list[int] = []

    def slow() -> None:
        with httpx.Client(timeout=PATIENCE, trust_env=False) as patient:
            answers.append(post(patient, running.api).status_code)

    with running_simulator("--faults", str(script)) as running:
        with httpx.Client(trust_env=False) as client:
            assert "Đang giả lập sự cố" in client.get(running.url).text
            thread = threading.Thread(target=slow)
            thread.start()
            deadline = time.monotonic() + PATIENCE
            while "Đang giả lập sự cố" in client.get(running.url).text:  # until the request has met its delay
                assert time.monotonic() < deadline
        assert running.end() == (0, "", "")
        thread.join(PATIENCE)
    assert answers == [200]


BAD_OPTIONS: list[tuple[dict[str, Any], list[str]]] = [
    # options, a file's name standing for its path; words that the error must have
    ({"listen": "8043"}, ["--listen", "HOST:PORT"]),
    ({"listen": "127.0.0.1:x"}, ["--listen", "HOST:PORT"]),
    ({"listen": "127.0.0.1:65536"}, ["--listen", "HOST:PORT"]),
    ({"listen": "256.0.0.1:0"}, ["256.0.0.1:0", "--listen"]),
    ({}, ["in use", "--listen"]),
    ({"path": "TrackingMCDT"}, ["--path"]),
    ({"path": "/faults"}, ["--path"]),
    ({"faults": "absent.yml"}, ["absent.yml", "No such file"]),
    ({"faults": "no-list.yml"}, ["no-list.yml", "list"]),
    ({"faults": "no-yaml.yml"}, ["no-yaml.yml", "not YAML (line 1)"]),
    ({"faults": "no-fault.json"}, ["no-fault.json", "1: a fault of kind 'status'"]),
    ({"keep": "directory"}, ["keep what the simulator gets", "directory"]),
    ({"keep": "other.jsonl"}, ["other.jsonl", "line 1 is not a request"]),
    ({"tls_cert": "absent.pem"}, ["absent.pem", "No such file", "--tls-cert"]),
    ({"tls_cert": "key.pem"}, ["key.pem", "PEM", "--tls-key"]),
    ({"tls_key": "key.pem"}, ["--tls-cert"]),
]
_FILES = {
    "no-list.yml": "kind: garbage",
    "no-yaml.yml": "[{kind: [",
    "no-fault.json": '[{"kind": "garbage"}, {"kind": "status"}]',
    "other.jsonl": '{"id": 1}\n',
    "key.pem": "nothing",
}


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS)
def test_options_that_cannot_be_used_are_refused(
    simulator: RunningSimulator, tmp_path: Path, options: dict[str, Any], words: list[str]
) -> None:
    """The error names the option or file, what is wrong and what mends it; nothing is announced."""
    (tmp_path / "directory").mkdir()
    for name, text in _FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = {
        name: tmp_path / str(options[name]) for name in ("faults", "keep", "tls_cert", "tls_key") if name in options
    }
    # The shared simulator's own port: whatever is wrongly let through ends there instead of serving for ever.
    taken = simulator.url.removeprefix("http://")
    with pytest.raises(ConnectorError) as refusal:
        command(**{"listen": taken, **options, **paths})
    told = f"{refusal.value.operation} {refusal.value.subject} {refusal.value.cause} {refusal.value.mend}"
    for word in words:
        assert word in told
    assert refusal.value.mend


def test_a_refusal_is_one_message_and_exit_code_2(simulator: RunningSimulator) -> None:
    """As the command shows it: what, why and the mend on standard error, no traceback."""
    run = refused("--listen", simulator.url.removeprefix("http://"))
    assert (run.returncode, run.stdout) == (2, "")
    assert "Traceback" not in run.stderr
    assert "→" in run.stderr


def test_no_answer_waits_for_a_full_packet() -> None:
    """A kept-alive connection has Nagle's delay off; otherwise every answer would take 40 ms."""
    with listen(Options(port=0)) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_its_help_has_an_example() -> None:
    """What an operator types first."""
    run = refused("--help")
    assert run.returncode == 0
    assert "emc-cdc simulator --listen" in " ".join(run.stdout.split())
