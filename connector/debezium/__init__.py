"""Topics that Debezium itself writes, read as changes: one topic a table, merged into one sequence."""
