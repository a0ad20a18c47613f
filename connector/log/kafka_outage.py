"""Tells a reader of brokers that are away: librdkafka reconnects for ever and says nothing; an operator wants to hear.

Contract: `look` is called when a poll found nothing; it raises LogUnavailable once no broker has answered for
`Patience.connect`, and costs nothing while no client has said anything of brokers. `over` is called when records came.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer, KafkaException

from connector.log.kafka_cluster import Cluster, Deadline, error_of

_PROBE: Final = 1.0
"""Seconds given to a broker to show that it is back, each time a poll found nothing while brokers were away."""


class Outage:
    """See the module's contract. topic: what brokers are asked for; operation, subject: what the error is about."""

    def __init__(self, cluster: Cluster, consumer: Consumer, topic: str, operation: str, subject: str) -> None:
        self._cluster = cluster
        self._consumer = consumer
        self._topic = topic
        self._operation = operation
        self._subject = subject
        self._patience: Deadline | None = None

    def look(self) -> None:
        """Ask a broker whether it is there, if there is doubt."""
        if self._cluster.trouble is None:
            self._patience = None
            return
        if self._patience is None:
            self._patience = Deadline(self._cluster.patience.connect)
        try:
            self._consumer.list_topics(self._topic, _PROBE)
        except KafkaException as error:
            if self._patience.left() == 0:
                raise self._cluster.explain(self._operation, self._subject, error_of(error)) from error
        else:
            self.over()

    def over(self) -> None:
        """A broker answered."""
        self._patience = None
        self._cluster.heard_from()
