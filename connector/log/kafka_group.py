"""Whether our user may name its consumer group: a right that librdkafka wants of a consumer that joins none.

A consumer asks, not the admin client: librdkafka ends the whole process when a group's coordinator goes away while that
one asks (its issue 4605, as of 2.16).
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connector.log.kafka_cluster import Cluster, Deadline

_PATIENCE: Final = 2.0
"""Seconds for the coordinator. Nothing else of ours waits for it, so where it is away the right is not judged."""
_STEP: Final = 0.3


def may_use_group(cluster: Cluster, group: str, topic: str) -> bool:
    """False when the brokers say that we may not. The topic need not be there."""
    consumer = cluster.consumer(group, 1)
    try:
        deadline = Deadline(_PATIENCE)
        while deadline.left():
            try:
                consumer.committed([TopicPartition(topic, 0)], _STEP)
            except KafkaException:
                # The refusal comes as an event of its own; the question only times out.
                message = consumer.poll(0)
                error = None if message is None else message.error()
                if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    return False
            else:
                return True
    finally:
        consumer.close()
    return True
