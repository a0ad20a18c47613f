"""emc-cdc: from a committed row in a legacy PostgreSQL database to an event at EMC.

The rooms, and the one direction in which they may import each other, are in docs/architecture.md.
"""

__version__ = "0.1.0"
