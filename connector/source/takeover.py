"""Going on from the slot: whose log it was last, over a promotion too, and under which epoch.

Contract: `resume` is called with the slot's state as it was read before. An epoch belongs to one keyed index, one
system and one timeline. Whoever goes on with an index that was made from the log, or on another timeline, begins a new
one: a marker in every partition, which takes the place of the partition's last record into the new epoch. So positions
below it are still known as written, those above are new, and nothing is read anew. Whoever comes back and finds a later
epoch than its index has knows that another was at work, and makes its index from the log (`outdated`): what that one
wrote is in no index here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Context
from connector.change.record import EPOCH, Change
from connector.errors import LogUnavailable, SourceGap, SourceWaits
from connector.source import slot as slots
from connector.source.assembler import Assembler
from connector.source.attachment import PUBLICATION, READ_UNTIL, RUN, Attachment
from connector.source.index import REBUILT
from connector.source.proof import proof_of
from connector.source.session import Session
from connector.source.timeline import branched_before, switch_point


def outdated(session: Session, meta: Mapping[str, str]) -> bool:
    """Whether the log has an epoch that this index knows nothing of, or the index was made for a turn that never came.

    LogUnavailable when the log cannot be asked.
    """
    if meta.get(REBUILT):
        return True
    try:
        reader = session.open_reader()
    except LogUnavailable:
        return False  # there is none yet, or it is away: opening it for writing will tell
    try:
        decoder = ChangeDecoder(reader.schema)
        epochs = [decoder.decode(b'["tail"]', value).position.epoch for value in reader.tails().values()]
    finally:
        reader.close()
    return max(epochs, default=0) > int(meta["epoch"])


def branch_gap(ground: Attachment, meta: Mapping[str, str], reached: int = 0) -> str:
    """Why the timeline that the server is on now does not continue what was seen up to `reached`; empty when it does.

    A standby that was promoted under the stream is the same run of the same server: what it sent it has, be it of the
    new timeline already.
    """
    old, new = int(meta["timeline"]), ground.identity.timeline
    if old == new or meta.get(RUN) == ground.run:
        return ""
    reached = max(reached, int(meta["confirmed"]), int(meta.get(READ_UNTIL, 0)))
    return branched_before(switch_point(ground.history, old), reached, old, new)


def resume(ground: Attachment, state: slots.SlotState, meta: Mapping[str, str]) -> Assembler:
    """Open the log and go on with it. The slot is ours, and `state` is as it was when the index was found to fit it.

    SourceWaits when another capture was faster, SourceGap when the server is another than the log was made from.
    """
    session = ground.session
    tails = session.open_log()
    now = slots.read_slot(ground.connection, session.slot, ground.server.version)
    epoch = int(meta["epoch"])
    last = max(tails.values(), default=None)
    if now is None or now.confirmed != state.confirmed or (last is not None and last.epoch > epoch):
        raise SourceWaits(
            "resume from the replication slot",
            session.slot,
            "another capture was at work with it until just now",
            "nothing is to be done: this one brings its index up to date and tries again",
        )
    # A commit record that begins before the point where the timeline was left ends before it, too.
    reached = 0 if last is None else last.commit_lsn + (last.ordinal > 0)
    if gap := branch_gap(ground, meta, reached):
        raise SourceGap("resume from the replication slot", session.slot, gap, "the next start says how to go on")
    # The index has every commit of the log below this, and none from there on. Past the log's last commit nothing is
    # taken for known, whatever was confirmed while the tables were idle: a server that was restored to a moment in
    # between has other transactions there. Of those before it the proof is still to come.
    session.feeder.index_from = past = min(int(meta["confirmed"]), max(state.confirmed, reached))
    if meta.get(REBUILT) or int(meta["timeline"]) != ground.identity.timeline:
        assembler = _next_epoch(ground, max([epoch, *(tail.epoch for tail in tails.values())]) + 1, session.tails)
    else:
        assembler = ground.assembler(epoch, tails)
    assembler.proof = proof_of(session.tails, state.confirmed)
    assembler.indexed_below = past
    session.remember(
        {"confirmed": str(past), "restart": str(state.restart), RUN: ground.run, PUBLICATION: ground.publication}
    )
    return assembler


def _next_epoch(ground: Attachment, epoch: int, tails: Mapping[int, Change]) -> Assembler:
    session, identity = ground.session, ground.identity
    moved = {partition: change.position._replace(epoch=epoch) for partition, change in tails.items()}
    assembler = ground.assembler(epoch, moved)
    content = {"epoch": str(epoch), "system": identity.system_id, "timeline": str(identity.timeline)}
    for partition, position in moved.items():
        context = Context(
            assembler.name,
            assembler.database,
            epoch,
            position.commit_lsn,
            tails[partition].commit_time_us,
            None,
            assembler.now_ms(),
        )
        told = json.dumps(content).encode()
        key, value = assembler.message_entry(context, EPOCH, told, position, position.commit_lsn)
        assembler.add((partition,), key, value)
    session.hand_over(assembler)
    # On the log thread, in order: the index says so only when the log does.
    done = session.call(lambda: session.index.save([], content | {REBUILT: ""}))
    session.wait_for(lambda: done.done, "begin a new epoch in the log")
    return assembler
