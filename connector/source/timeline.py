"""A timeline's history: whether a server that was promoted has all that the log has (pure).

A standby that is promoted begins a new timeline; its history file names every timeline before it and the LSN at which
it was left. Up to there both histories are the same bytes, so LSNs mean the same (PostgreSQL section 26.3.6).
"""

from __future__ import annotations

from connector.change.position import lsn_text, parse_lsn


def switch_point(history: str, timeline: int) -> int | None:
    """Where `timeline` was left on the way to the one whose history this is; None when it is no ancestor."""
    for line in history.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == str(timeline):
            return parse_lsn(words[1])
    return None


def branched_before(switch: int | None, reached: int, old: int, new: int) -> str:
    """Why streaming cannot go on over the change of timeline; empty when it can. reached: what was seen of the old."""
    changed = f"the server is on timeline {new}, and was on {old}"
    if switch is None:
        return f"{changed}, from which it does not come: a restore, or another branch of the cluster's history"
    if switch < reached:
        return (
            f"{changed}: it branched off at {lsn_text(switch)}, but the log reaches {lsn_text(reached)}, so it has"
            " changes that this server never had (a restore, or a standby that was behind when it was promoted)"
        )
    return ""
