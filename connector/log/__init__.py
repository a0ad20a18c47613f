"""The change log: one contract (`contract`), two backends (`embedded`, `kafka`)."""
