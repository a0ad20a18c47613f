"""One simulator for the tests of delivery; every test begins without faults and looks at what came after it began."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from delivery_story import SERVICE, LoggedStory, service
from emc.simulator_process import RunningSimulator
from emc.simulator_process import simulator as running_simulator

from connector.settings import Settings


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30.0, trust_env=False) as client:
        yield client


@pytest.fixture
def simulator(shared_simulator: RunningSimulator, client: httpx.Client) -> RunningSimulator:
    shared_simulator.set_faults(client)
    return shared_simulator


@pytest.fixture
def before(simulator: RunningSimulator, client: httpx.Client) -> int:
    """The last id that was kept before the test."""
    received: int = client.get(f"{simulator.url}/healthz").json()["received"]
    return received


@pytest.fixture
def log(settings: Settings) -> Iterator[LoggedStory]:
    """The log of the module's `settings`, after a first read of the one service."""
    story = LoggedStory(settings)
    story.snapshot((SERVICE, service(1)))
    yield story
    story.close()
