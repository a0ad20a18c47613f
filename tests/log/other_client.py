"""kafka-python, a Kafka client that shares no code with librdkafka: what the tests use of it.

Its import uses a deprecated function of the standard library, which our tests' `filterwarnings = error` would refuse.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer, TopicPartition
    from kafka.partitioner.default import murmur2

__all__ = ["KafkaConsumer", "TopicPartition", "murmur2"]
