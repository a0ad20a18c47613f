"""Checks as data: what stands in the way, and the exact SQL or line that mends it."""
