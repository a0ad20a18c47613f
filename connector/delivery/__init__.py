"""Log → state → judgement → outbox → push."""
