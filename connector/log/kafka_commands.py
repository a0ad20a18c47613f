"""Kafka's own command lines, as the cluster's administrator types them to mend something. (No I/O.)

Contract: every line is whole: the brokers of the settings, the topic's name, and `--command-config` where the cluster
asks who one is. That file is the administrator's own; what stands in it is not known here, and no secret is ever shown.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from connector.settings import KafkaSettings

ADMIN_FILE: Final = "admin.properties"
"""The administrator's settings (security.protocol, sasl.jaas.config, …) for Kafka's own commands."""

Assignment = Sequence[Sequence[int]]
"""For every partition its replicas' brokers, the preferred leader first."""


class Commands:
    """Command lines for one cluster."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings.settings
        secured = self._protocol != "PLAINTEXT"
        self._where = f"--bootstrap-server {shlex.quote(settings.brokers)}" + (
            f" --command-config {ADMIN_FILE}" if secured else ""
        )

    @property
    def _protocol(self) -> str:
        return str(self._settings.get("security.protocol", "PLAINTEXT")).upper()

    def alter(self, topic: str, config: Mapping[str, str]) -> str:
        """Change a topic's settings."""
        pairs = ",".join(f"{name}=[{value}]" if "," in value else f"{name}={value}" for name, value in config.items())
        return f"kafka-configs.sh {self._where} --alter --entity-type topics --entity-name {topic} --add-config {pairs}"

    def replicate(self, topic: str, assignment: Assignment) -> tuple[str, str]:
        """Put a topic's replicas on other brokers; it is used as before meanwhile."""
        partitions = [
            {"topic": topic, "partition": number, "replicas": list(replicas)}
            for number, replicas in enumerate(assignment)
        ]
        text = json.dumps({"version": 1, "partitions": partitions}, separators=(",", ":"))
        return (
            f"echo '{text}' > {topic}.json",
            f"kafka-reassign-partitions.sh {self._where} --reassignment-json-file {topic}.json --execute",
        )

    def late_partitions(self, topic: str) -> str:
        """Show the partitions whose replicas are not all in sync."""
        return f"kafka-topics.sh {self._where} --describe --under-replicated-partitions --topic {topic}"

    def describe_topic(self, topic: str) -> str:
        """Show a topic's settings in force."""
        return f"kafka-configs.sh {self._where} --describe --all --entity-type topics --entity-name {topic}"

    def describe_broker(self, broker: int) -> str:
        """Show a broker's settings."""
        return f"kafka-configs.sh {self._where} --describe --all --entity-type brokers --entity-name {broker}"

    def grant(self, resource: str, operations: Sequence[str]) -> str:
        """Give our user rights. resource: as `--topic NAME`, `--group NAME`, `--transactional-id NAME`, `--cluster`."""
        allowed = " ".join(f"--operation {operation}" for operation in operations)
        return f"kafka-acls.sh {self._where} --add --allow-principal {self.principal} {allowed} {resource}"

    @property
    def principal(self) -> str:
        """Our user as Kafka's ACLs name it by default, fit for a shell."""
        if self._protocol.startswith("SASL"):
            user = self._settings.get("sasl.username")
            return "User:NAME_OF_THE_TOKEN" if user is None else shlex.quote(f"User:{user}")
        if self._protocol == "SSL" and (certificate := self._settings.get("ssl.certificate.location")):
            subject = f"openssl x509 -in {shlex.quote(str(certificate))} -noout -subject -nameopt RFC2253,-esc_msb"
            return f"\"User:$({subject} | sed 's/^subject= *//')\""
        return "User:ANONYMOUS"


def more_replicas(assignment: Assignment, brokers: Sequence[int], wanted: int) -> Assignment:
    """The assignment with so many replicas for each partition: who has it keeps it, others join in turn."""
    made = []
    for number, replicas in enumerate(assignment):
        start = number % len(brokers)
        others = [broker for broker in [*brokers[start:], *brokers[:start]] if broker not in replicas]
        made.append([*replicas, *others][: max(wanted, len(replicas))])
    return made
