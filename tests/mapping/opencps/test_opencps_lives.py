"""The OpenCPS v2 preset against an oracle in SQL: lives on a real server, captured, folded, compared event by event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from lives import catalogue, transactions
from plugins.postgres import Database
from source.attached_source import Attached

from connector.change.record import Change
from connector.delivery.fold import Due
from connector.delivery.partition import Partition
from connector.delivery.state import PartitionState
from connector.mapping.compile import compile_text
from connector.mapping.plan import Plan
from connector.settings import EmcSettings

HERE = Path(__file__).parent
PRESET = (resources.files("connector.mapping") / "presets" / "opencps-v2.yml").read_text("utf-8")
SEED = 1043
LIVES = 1000
PERSONAL = {"username", "applicantname", "address", "contacttelno", "contactemail", "password_", "bankinfo", "metadata"}

Owed = dict[str, list[dict[str, Any]]]
"""Events by dossier, in order, by the guide's names."""

MISTAKES = {
    "a stage is no processing": ("[processing, pausing, interoperating,", "[processing, pausing,"),
    "waiting is processing": ("[processing, pausing,", "[processing, waiting, pausing,"),
    "a denied dossier is not told": ("[denied, unresolved, cancelled]", "[unresolved, cancelled]"),
    "received without a date": (
        "received: {receivedate: {set: true}, dossierno: {set: true}}",
        "received: {dossierstatus: processing}",
    ),
    "an agency's copy is told": ("originality: [1, 3]", "originality: [1, 2, 3]"),
    "the desk is not told": ("originality: [1, 3]", "originality: 1"),
    "what was set aside is told": ("{originality: [1, 3]}", "{originality: {not: [0, 2, 4, 9]}}"),
    "every dossier goes by post": ("viapostal: [2, 3, 4]", "originality: [1, 3]"),
    "handed over is not by post": ("viapostal: [2, 3, 4]", "viapostal: [2, 3]"),
    "no carrier is another carrier": ("postalservicecode: {set: false}", "postalservicecode: nobody"),
    "confirmed is not paid": ("[2, 3, 5]", "[2, 3]"),
    "asked again is paid": ("[2, 3, 5]", "[2, 3, 4, 5]"),
    "one wallet is not online": ("KeyPayDVCQG, ViettelPay, Keypay, KEYPAY", "KeyPayDVCQG, Keypay, KEYPAY"),
    "a way that is not told is none": (
        "- when: {exists: payments, where: {paymentstatus: [2, 3, 5]}}",
        "- when: {exists: payments, where: {paymentstatus: [2, 3, 5], paymentmethod: {set: true}}}",
    ),
    "the portal is another system": ("is: {5: true}", "is: {3: true}"),
    "level 2 is a service": ("2: 0, 1: 0", "2: 3, 1: 0"),
    "all is received online": ("is: {true: online, false: in_person}", "is: {true: online, false: online}"),
    "a business is a citizen": ("{business: business,", "{business: citizen,"),
}
"""What could be wrong with the preset, and must be found: its text, and the wrong text in all its places."""


def plan(text: str = PRESET) -> Plan:
    return compile_text(text + "  SiteId: 327\n")


class Run:
    """Lives that were lived: the log's records, and what the oracle says of them."""

    def __init__(self, database: Database, directory: Path, lives: int) -> None:
        self.directory = directory
        tables = "\n".join((HERE / name).read_text("utf-8") for name in ("schema.sql", "oracle.sql"))
        attached = Attached(database, directory, f"{tables};{catalogue()}")
        attached.selection = plan().selection
        attached.set_up()
        with attached.capturing(selection=attached.selection):
            for transaction in transactions(SEED, lives):
                attached.owner.execute(transaction.encode())
        self.records = attached.records()
        self.owed: Owed = defaultdict(list)
        for dossier, event in attached.ask("SELECT dossierid, unnest(owed) FROM told.life ORDER BY dossierid, turn"):
            self.owed[str(dossier)].append(event)
        self.waiting = {
            str(dossier)
            for dossier, waits in attached.ask(
                "SELECT DISTINCT ON (dossierid) dossierid, waits FROM told.life ORDER BY dossierid, turn DESC"
            )
            if waits
        }
        self.originality: dict[str, int] = {
            str(dossier): originality
            for dossier, originality in attached.ask("SELECT dossierid, originality FROM opencps_dossier")
        }
        attached.close()

    def told(self, mapping: Plan) -> tuple[Owed, set[str]]:
        """What the fold makes of the records: the events, and the dossiers that are held in the end."""
        events: Owed = defaultdict(list)
        held: set[str] = set()

        def owe(due: Due) -> None:
            events[due.dossier].append(_plain(due))

        for number, records in enumerate(self.records):
            path = self.directory / f"state-{mapping.version}-{number}.sqlite"
            state = PartitionState(path, "opencps", number)
            partition = Partition(state, mapping, EmcSettings(), owe)
            partition.apply(list(enumerate(records)))
            partition.save()
            held.update(dossier for (dossier,) in state.db.execute("SELECT dossier FROM held"))
            state.close()
        return events, held

    def changes(self) -> Iterator[Change]:
        for records in self.records:
            yield from records


def _plain(due: Due) -> dict[str, Any]:
    event = {name: getattr(due.event, name) for name in type(due.event).__slots__}
    user = {name: getattr(due.event.User, name) for name in type(due.event.User).__slots__}
    return {**event, "User": {name: value for name, value in user.items() if value is not None}}


def test_a_thousand_lives_owe_what_the_oracle_says(database: Database, tmp_path: Path) -> None:
    """Every event in order, who waits in the end, nothing for copies; and every planted mistake is seen."""
    run = Run(database, tmp_path, LIVES)
    events, held = run.told(plan())
    for dossier in sorted({*events, *run.owed}, key=int):
        assert events.get(dossier, []) == run.owed.get(dossier, []), f"dossier {dossier}"
    assert held == run.waiting
    assert held, "some wait for a row that never comes"
    _assert_covered(run)
    named = {column for change in run.changes() for row in (change.before, change.after) for column in row or ()}
    assert not named & PERSONAL
    assert not [dossier for dossier in events if run.originality[dossier] not in (1, 3)]
    for mistake, (right, wrong) in MISTAKES.items():
        assert right in PRESET, mistake
        assert run.told(plan(PRESET.replace(right, wrong))) != (events, held), mistake


def _assert_covered(run: Run) -> None:
    """The lives have all that the guide tells apart, also the kinds of dossier that are not told."""
    told = [event for events in run.owed.values() for event in events]
    for name, values in {
        "Status": {0, 1, 2, 3},
        "FormsReception": {1, 2},
        "FormsPayments": {0, 1, 2},
        "Level": {0, 3, 4},
        "IsFromDVCQG": {0, 1},
        "IsDVCBC": {0, 1, 2},
    }.items():
        assert {event[name] for event in told} == values, name
    assert {event["User"]["TYPE"] for event in told} == {1, 2}
    assert set(run.originality.values()) == {-3, -2, -1, 0, 1, 2, 3, 4, 9}
    assert len(told) > 2 * LIVES
