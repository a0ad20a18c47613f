"""PostgreSQL → log entries: slot, stream, progress, decoding, snapshot, keyed index."""
