"""A strict EMC for tests, demos and rehearsals: checks every request against the guide, keeps what it got.

It shares no code with the side that sends: `intake` parses and checks on its own, so that a mistake there cannot hide.
"""
