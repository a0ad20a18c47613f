"""Golden messages of real servers: read whole, cut at every byte, and damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from fuzz_decoders import VERSIONS, Decoders, golden, run

from connector.errors import ProtocolViolation
from connector.source.decode.messages import parse


@pytest.fixture
def decoders(tmp_path: Path) -> Iterator[Decoders]:
    made = Decoders(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_messages_are_read(version: int) -> None:
    """Every message that a server of this version sent is understood; every kind of row message is among them."""
    first, *_ = golden(version)
    for message in first:
        parse(message)
    assert {chr(message[0]) for message in first} >= set("BCRYIUDTM")


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_messages_cut_at_every_byte(version: int, decoders: Decoders) -> None:
    """Cut anywhere, a message is refused with the documented error, and no decoder raises another."""
    for message in golden(version)[0]:
        for end in range(len(message)):
            with pytest.raises(ProtocolViolation):
                parse(message[:end])
            decoders.one(message[:end])


@pytest.mark.parametrize("version", VERSIONS)
def test_streamed_messages_cut_at_every_byte(version: int, decoders: Decoders) -> None:
    """The same for the messages of streamed transactions, which the spool takes."""
    for reading in golden(version)[1:]:
        for message in reading:
            for end in range(len(message)):
                decoders.one(message[:end])
            decoders.one(message)


def test_damaged_messages_are_refused(decoders: Decoders) -> None:
    """A short run of what `make chaos` does for long: only documented errors, the same from both transcoders."""
    run(decoders, 20_000, Random().randrange(1 << 32))
