"""Put a mapping on top of the one it extends. Pure.

`children`, `references`, `milestones` and `User` are joined entry by entry; every other key of the upper mapping
replaces the lower one's as a whole. Each node keeps the place it came from, so errors point into the right file.
"""

from __future__ import annotations

from connector.mapping.document import MapNode

JOINED = ("children", "references", "milestones", "User")


def extend(lower: MapNode, upper: MapNode) -> MapNode:
    """The upper mapping's lines where it has any, the lower one's elsewhere, in the order of the lower one."""
    joined = lower.entries_by_key()
    for name, (key, value) in upper.entries_by_key().items():
        below = joined.get(name)
        if key.value in JOINED and below and isinstance(below[1], MapNode) and isinstance(value, MapNode):
            entries = below[1].entries_by_key() | value.entries_by_key()
            joined[name] = (key, MapNode(tuple(entries.values()), value.mark))
        else:
            joined[name] = (key, value)
    return MapNode(tuple(joined.values()), upper.mark)
