"""Change, Position and their Avro form. Pure: no socket, clock, thread or logger."""
