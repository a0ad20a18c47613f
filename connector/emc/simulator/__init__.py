"""A strict EMC in a process of its own, for tests, demos and rehearsals.

Contract: what it reads from a request it reads by its own code (`parsing`), not by the encoder's, so that a mistake of
the encoder is not made twice; only the guide's numbered rules are one book for both (`connector.emc.rules`).

request → parsing → examination (rules) → faults (what goes wrong on purpose) → arrivals (kept) → answer
"""
