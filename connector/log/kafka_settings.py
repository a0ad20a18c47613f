"""librdkafka's settings as an operator gives them under log.kafka.settings: which are refused, and what is wrong.

Contract: a fault names the setting as it was written, says why, and never shows a value, for any value may be a
secret. librdkafka is the judge of names and values; no broker is asked, and nothing is connected to.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaException, libversion
from confluent_kafka.admin import AdminClient

from connector.log.librdkafka_names import NAMES

Value = str | int | float | bool

_PROMISE: Final = "the log's promises rest on this setting"
_OURS: Final = "remove the line: it is always as the log needs it"
_BROKERS: Final = "name the brokers in log.kafka.brokers"
_PATIENCE: Final = "how long an append may take is bounded by the log: nothing waits for ever"
_CODE: Final = "it takes a function of a program's, which no file can hold"

_REFUSED: Final[Mapping[str, tuple[str, str]]] = {
    "bootstrap.servers": (_PROMISE, _BROKERS),
    "metadata.broker.list": (_PROMISE, _BROKERS),
    # appended by all in sync, once, in order, fenced, and only where our partitioner says
    **dict.fromkeys(
        (
            "acks", "request.required.acks", "enable.idempotence", "enable.gapless.guarantee", "transactional.id",
            "partitioner", "queuing.strategy",
        ),
        (_PROMISE, _OURS),
    ),
    # a topic that a broker makes by itself keeps nothing for ever
    "allow.auto.create.topics": (_PROMISE, _OURS),
    # read committed, from where we say, to the end, and unharmed
    **dict.fromkeys(
        (
            "isolation.level", "auto.offset.reset", "enable.auto.commit", "auto.commit.enable",
            "enable.auto.offset.store", "enable.partition.eof", "check.crcs", "topic.blacklist",
        ),
        (_PROMISE, _OURS),
    ),
    # who has which partition, and under which name
    **dict.fromkeys(
        ("group.id", "group.instance.id", "group.protocol", "partition.assignment.strategy"), (_PROMISE, _OURS)
    ),
    **dict.fromkeys(("message.timeout.ms", "delivery.timeout.ms", "transaction.timeout.ms"), (_PATIENCE, _OURS)),
    "message.max.bytes": ("how large a record may be is the log's to say", _OURS),
    **dict.fromkeys(("enabled_events", "log.queue", "internal.termination.signal"), ("it would silence errors", _OURS)),
    **dict.fromkeys(("logger", "opaque", "default.topic.config", "default_topic_conf"), (_CODE, "remove the line")),
}  # fmt: skip

_VERIFY: Final = "without it whoever stands in between can read and change personal data"
_MUST_BE: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "enable.ssl.certificate.verification": (frozenset({"true", "t", "1"}), "true"),
    "ssl.endpoint.identification.algorithm": (frozenset({"https"}), "https"),
}
"""What proves that a broker is who it says; all else about TLS is the operator's."""

_CHOICES: Final = {
    "security.protocol": "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
    "sasl.mechanism": "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER",
    "compression.type": "none, gzip, snappy, lz4, zstd",
}
_ALIASES: Final = {"sasl.mechanisms": "sasl.mechanism", "compression.codec": "compression.type"}
_OF_A_VALUE: Final = re.compile(r"Invalid value|Expected |outside allowed range|must be set through dedicated")
_RANGE: Final = re.compile(r"allowed range (-?\d+\.\.-?\d+)")
_NAMED: Final = re.compile(r"`([a-z.]+)`|\b([a-z]+(?:\.[a-z]+)+)\b")
"""A setting in librdkafka's text."""
_UNKNOWN: Final = "No such configuration property"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SettingFault:
    """What is wrong with one setting; `name` is empty where librdkafka does not say with which."""

    name: str
    cause: str
    mend: str


class Quiet:
    """Takes librdkafka's log lines (a `logging.Logger` by its method `log`)."""

    def log(self, level: int, message: str, *arguments: object) -> None:
        logger.debug(message, *arguments)


def refused(settings: Mapping[str, Value]) -> list[SettingFault]:
    """The settings that a promise of the log's rests on, and those that would turn off TLS's proof of who is there."""
    faults = []
    for name, value in settings.items():
        if name in _REFUSED:
            faults.append(SettingFault(name, *_REFUSED[name]))
        elif name.endswith("_cb"):
            faults.append(SettingFault(name, _CODE, "remove the line"))
        elif name in _MUST_BE and str(value).strip().lower() not in _MUST_BE[name][0]:
            mend = (
                "remove the line; a certificate of your own authority is verified with ssl.ca.location, and must name"
                " the host that log.kafka.brokers names"
            )
            faults.append(SettingFault(name, f"it can only be {_MUST_BE[name][1]}: {_VERIFY}", mend))
    return faults


def misunderstood(
    settings: Mapping[str, Value], kinds: Iterable[tuple[Callable[..., Any], Mapping[str, Any]]]
) -> list[SettingFault]:
    """What librdkafka does not take: each setting by itself; and if that is well, all of them together.

    kinds: the clients to be made, each with our own settings for it.
    """
    faults = [fault for name, value in settings.items() if (fault := _alone(name, value)) is not None]
    if faults:
        return faults
    for kind, ours in kinds:
        if (text := _complaint(kind, {**ours, **settings})) is not None:
            return [_together(settings, text)]
    return []


def _complaint(kind: Callable[..., Any], config: Mapping[str, Any]) -> str | None:
    try:
        kind(dict(config), logger=Quiet())
    except (KafkaException, TypeError, ValueError, AttributeError) as error:
        first = error.args[0] if error.args else ""
        return str(first.str() if hasattr(first, "str") else first)
    return None


def _alone(name: str, value: Value) -> SettingFault | None:
    text = _complaint(AdminClient, {name: value})
    if text is None:
        return None
    if _UNKNOWN in text:
        near = difflib.get_close_matches(name.casefold(), NAMES, n=1, cutoff=0.6)
        mend = f"did you mean '{near[0]}'?" if near else f"compare it with {_page()}"
        return SettingFault(name, "librdkafka has no such setting", mend)
    if not _OF_A_VALUE.search(text):
        return None  # it lacks what the other settings say
    if bounds := _RANGE.search(text):
        mend = f"write a number in {bounds[1]}"
    elif "Expected bool" in text:
        mend = "write true or false"
    elif choices := _CHOICES.get(_ALIASES.get(name, name)):
        mend = f"write one of {choices}"
    else:
        mend = f"compare it with {_page()}"
    return SettingFault(name, "librdkafka does not take this value", mend)


def _together(settings: Mapping[str, Value], text: str) -> SettingFault:
    """The fault that librdkafka's text tells of, without any value that was given."""
    text = re.sub(r"^Failed to create \w+: ", "", text)
    words = {quoted or dotted for quoted, dotted in _NAMED.findall(text)}
    named = [name for name in settings if any(_is(name, word) for word in words)]
    for value in sorted({str(value) for value in settings.values() if isinstance(value, str)}, key=len, reverse=True):
        text = text.replace(value, "***") if value else text
    if "SASL mechanism" in text:
        name = "sasl.mechanisms" if "sasl.mechanisms" in settings else "sasl.mechanism"
        return SettingFault(name, "librdkafka does not take it", f"write one of {_CHOICES['sasl.mechanism']}")
    return SettingFault(named[0] if named else "", text.strip(), f"compare it with {_page()}")


def _is(name: str, word: str) -> bool:
    """Whether librdkafka means a setting by a word; it knows some by a shorter name than they were given by."""
    return name == word or name.startswith(f"{word}.") or name.endswith(f".{word}")


def _page() -> str:
    return f"librdkafka's page CONFIGURATION.md ({libversion()[0]})"
