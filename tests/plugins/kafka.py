"""A real Kafka broker for the tests: one KRaft node from Maven's jars, shared by the whole run.

`plugins.kafka_cluster` makes three of them a cluster.

Contract: `kafka` starts the broker at its first use and every test may stop, kill or pause it, as long as it is
running again afterwards. Its port and its data stay the same over every restart. It listens on loopback only and never
outlives the test run, not even one that was killed. Jars that are not there are an error, not a skip.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
STOP_SECONDS = 60.0

SMALL_JAVA = ("-Xmx384m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")

# Waits for the end of its input, which comes when the test run dies; then ends the broker without asking.
_GUARD = 'read -r _; kill -KILL "$1"'

# Small numbers start fast; the short session makes a killed broker's return quick.
_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/data
num.network.threads=2
num.io.threads=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
{more}
"""
_LOG4J = """\
log4j.rootLogger=WARN, file
log4j.appender.file=org.apache.log4j.FileAppender
log4j.appender.file.File={directory}/broker.log
log4j.appender.file.layout=org.apache.log4j.PatternLayout
log4j.appender.file.layout.ConversionPattern=%d %p %m (%c)%n
"""


class BrokerFailed(Exception):
    """The broker could not be had; the text says why and what to do."""


def libraries() -> Path:
    """The directory of the jars: EMC_CDC_KAFKA_LIBS, or where tests/install puts them. BrokerFailed when empty."""
    directory = Path(os.environ.get("EMC_CDC_KAFKA_LIBS") or ROOT / ".cache/kafka/libs").absolute()
    if shutil.which("java") is None:
        raise BrokerFailed("no Java; install it: apt-get install openjdk-17-jre-headless")
    if not any(directory.glob("kafka_2.13-*.jar")):
        raise BrokerFailed(f"no Kafka in {directory}; install it: tests/install (or set EMC_CDC_KAFKA_LIBS)")
    return directory


@dataclass(frozen=True, slots=True)
class Quorum:
    """The controllers of a KRaft cluster: its id, and the port of each node from node 1 on."""

    cluster: str
    ports: tuple[int, ...]

    @classmethod
    def new(cls, nodes: int) -> Quorum:
        """A cluster that does not exist yet."""
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # With a dash at its beginning the command would take it for an option.
        cluster = cluster if not cluster.startswith("-") else "A" + cluster[1:]
        return cls(cluster, tuple(free_port() for _ in range(nodes)))

    @property
    def voters(self) -> str:
        """As `controller.quorum.voters` has it."""
        return ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(self.ports, 1))


class KafkaBroker:
    """One broker, broker and controller in one process. Not for use from several threads.

    `start` and `stop` as often as wished; topics, data and port stay. As a context manager it does both.
    """

    def __init__(
        self,
        directory: Path,
        libs: Path | None = None,
        java: Sequence[str] = SMALL_JAVA,
        *,
        quorum: Quorum | None = None,
        node: int = 1,
        more: str = "",
    ) -> None:
        """java: options of the virtual machine; the default starts fast and stays small.

        quorum: of which it is `node`; a quorum of its own without. more: lines of server.properties, the last of a name
        wins; {port}, {controller} and {directory} stand for its own.
        """
        self.directory = directory.absolute()
        self.node = node
        self._java = tuple(java)
        self._more = more
        self._quorum = quorum or Quorum.new(1)
        self.port = free_port()
        self.advertised = self.port
        """Where clients are sent to: a proxy's port, if it is set before the first start."""
        self._libs = libs or libraries()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for a client's `bootstrap.servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The Java process's id. BrokerFailed when there is none."""
        if self._process is None:
            raise BrokerFailed("the broker is not running")
        return self._process.pid

    def start(self) -> None:
        """Start with the data as they are, and return when clients are answered. BrokerFailed with the log's end."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start without waiting for it; `wait_until_ready` is to follow."""
        if self.running:
            return
        self._dismiss_guard()
        if not (self.directory / "data").exists():
            self._format()
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", str(self.directory / "server.properties")),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Return when clients are answered. BrokerFailed with the log's end, and the broker is ended."""
        if self._process is None:
            raise BrokerFailed("the broker is not running")
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order (SIGTERM) and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Crash it (SIGKILL) and wait."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it stand still: connections are taken, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """`stop` and `start`."""
        self.stop()
        self.start()

    def last_lines(self, count: int = 15) -> str:
        """The end of what the broker wrote."""
        lines: list[str] = []
        for name in ("output.log", "broker.log"):
            with contextlib.suppress(FileNotFoundError):
                lines += (self.directory / name).read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
        return "\n".join(lines)

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _command(self, main: str, *arguments: str) -> list[str]:
        log4j = f"-Dlog4j.configuration=file:{self.directory}/log4j.properties"
        return ["java", *self._java, log4j, "-cp", f"{self._libs}/*", main, *arguments]

    def _format(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        values = {
            "port": self.port,
            "advertised": self.advertised,
            "node": self.node,
            "controller": self._quorum.ports[self.node - 1],
            "voters": self._quorum.voters,
            "directory": self.directory,
        }
        values["more"] = self._more.format(**values)
        properties = self.directory / "server.properties"
        properties.write_text(_PROPERTIES.format(**values), encoding="utf-8")
        (self.directory / "log4j.properties").write_text(_LOG4J.format(**values), encoding="utf-8")
        done = subprocess.run(
            self._command("kafka.tools.StorageTool", "format", "-t", self._quorum.cluster, "-c", str(properties)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BrokerFailed(f"the broker's storage could not be formatted\n{done.stdout}{done.stderr}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._takes_connections():
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Waiting for the process is the pause between attempts, and notices its death at once.
                raise BrokerFailed(f"the broker ended with {process.wait(0.05)}\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise BrokerFailed(f"the broker was not there after {START_SECONDS:.0f} s\n{self.last_lines()}")
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            try:
                if client.list_topics(timeout=5).brokers:
                    return
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise BrokerFailed(f"the broker does not answer: {error}\n{self.last_lines()}") from error

    def _takes_connections(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        for each in (number, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(each)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise BrokerFailed(f"the broker ran on {STOP_SECONDS:.0f} s after SIGTERM\n{self.last_lines()}") from None
        finally:
            self._process = None
            self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            # Ended before its input: it must not signal a process id that may be another's by now.
            self._guard.kill()
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None


def free_port() -> int:
    """A free port below those that systems give to outgoing connections, so that it stays free over a restart."""
    for _ in range(1000):
        port = 10_240 + secrets.randbelow(22_000)
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
    raise BrokerFailed("no free TCP port on 127.0.0.1")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """The run's broker, started at its first use."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
    shutil.rmtree(broker.directory, ignore_errors=True)
