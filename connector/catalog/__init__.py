"""A PostgreSQL catalog: what it says of a database, as facts, and the rules on them, as findings with their mends."""
