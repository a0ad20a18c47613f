"""The settings of one connector, as one YAML file states them.

Contract: plain validated values, no I/O. `connector.configuration` reads the file, resolves `${env:NAME}` and
`${file:PATH}`, validates against these models and turns every error into file:line:column. Units are in the names or
the descriptions; durations are seconds. Secrets are `SecretStr`, or kept out of `repr`, and never print.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

_UNITS = {"": 1, "B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_SIZE = r"(\d+) ?(B|kB|MB|GB|TB|)"


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = re.fullmatch(_SIZE, value.strip())
    if found is None:
        raise ValueError("a size is a number of bytes, or one with a unit as PostgreSQL writes it: 512MB, 8GB, 1TB")
    return int(found[1]) * _UNITS[found[2]]


Size = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(gt=0),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "string", "pattern": rf"^(({_SIZE})$|\$\{{(env|file):)"},
            ]
        }
    ),
]
"""Bytes; may be written with PostgreSQL's units, which are powers of 1024."""
LARGEST_RECORD = 16 * 1024 * 1024
"""Bytes of one record that a log takes at most; our topics are made with it as their max.message.bytes."""
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TypeSettings(Section):
    """How values are written where Debezium has several ways; its own defaults (docs/types.md)."""

    decimal: Literal["precise", "string", "double"] = Field(default="precise", description="numeric and money")
    interval: Literal["numeric", "string"] = Field(default="numeric", description="microseconds, or ISO 8601")
    binary: Literal["bytes", "base64", "hex"] = Field(default="bytes", description="bytea")
    hstore: Literal["json", "map"] = Field(default="json", description="a JSON text, or a map")


class SourceSettings(Section):
    """The legacy database and how the connector attaches to it."""

    dsn: SecretStr = Field(description="libpq connection string or URI of the runtime role")
    slot: str | None = Field(default=None, pattern=r"^[a-z0-9_]{1,63}$", description="default: emc_cdc_<name>")
    publication: str | None = Field(default=None, description="default: emc_cdc_<name>")
    publish_columns: Literal["all", "mapped"] = Field(
        default="all", description="mapped: column lists (PostgreSQL 15+); they block migrations of listed columns"
    )
    data: Path = Field(default=Path("data/capture"), description="directory of the keyed index")
    statement_timeout: Seconds = Field(default=30.0, description="on everything asked of the database but COPY")
    lock_timeout: Seconds = Field(default=2.0, description="on everything asked of the database")
    feedback_interval: Seconds = Field(default=1.0, description="how often the server hears of our progress")
    stall_timeout: Seconds = Field(default=10.0, description="disconnect when the log takes nothing for so long")
    on_gap: Literal["stop", "reread"] = Field(
        default="stop", description="when the stream lacks changes: stop and ask, or read the tables anew"
    )
    wal_budget: Size | None = Field(
        default=None, description="how much WAL our slot may hold back on the server, e.g. 8GB; default: no budget"
    )
    on_wal_budget: Literal["alert", "drop_slot"] = Field(
        default="alert",
        description="past wal_budget: alert, or drop the slot and read the tables anew later",
    )
    failover_slots: bool = Field(
        default=True, description="make slots that a standby may keep a copy of (17 and later), to outlive a promotion"
    )
    snapshot_readers: int = Field(default=2, ge=1, le=16, description="connections that read tables side by side")
    snapshot_age: float = Field(
        default=600.0, ge=0, description="how long the first read may hold one snapshot before it streams meanwhile"
    )
    types: TypeSettings = TypeSettings()


class RegistrySettings(Section):
    """A schema registry with Confluent's REST API, which then gives the schemas their ids."""

    url: str = Field(pattern=r"^https?://", description="its address; a path before the API's own is kept")
    subjects: Literal["RecordName", "TopicRecordName"] = Field(
        default="TopicRecordName", description="the subject of a schema: its record's full name, or the topic before it"
    )
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = Field(default=None, description="PEM bundle to verify it with; default: the system's")

    @model_validator(mode="after")
    def _address(self) -> RegistrySettings:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname or "", parts.port
            known = bool(host.encode("idna")) and port != 0
        except ValueError:
            known = False
        if not known or parts.query or parts.fragment or parts.username is not None or parts.password is not None:
            raise ValueError("url must be https://host[:port][/path]; user and password have keys of their own")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.password is not None and self.url.startswith("http://") and not _loopback(self.url):
            raise ValueError("url must begin with https:// where a password is sent")
        return self


class KafkaSettings(Section):
    """A Kafka cluster as the log."""

    brokers: str = Field(description="bootstrap servers, host:port[,host:port]")
    replication_factor: int = Field(default=3, ge=1)
    min_insync_replicas: int = Field(default=2, ge=1)
    settings: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        max_length=300,
        repr=False,
        description="any librdkafka setting, e.g. security.protocol, sasl.username",
    )
    events_topic: bool = Field(
        default=True, description="write every EMC event to <name>.emc-events, too, for other consumers"
    )
    registry: RegistrySettings | None = Field(
        default=None, description="a Confluent-compatible schema registry; default: ids come from <name>.schemas"
    )


class DebeziumSettings(Section):
    """Topics in `log.kafka` that Debezium itself writes, as the input of deliver (docs/debezium-input.md)."""

    prefix: str = Field(min_length=1, description="Debezium's topic.prefix")
    database: str | None = Field(
        default=None, description="where topics name it too (SQL Server): prefix.db.schema.table"
    )
    topics: dict[str, str] = Field(default_factory=dict, description="schema.table → topic, of those that differ")
    transactions: str | None = Field(default=None, description="topic.transaction; default: <prefix>.transaction")
    format: Literal["json", "avro"] = Field(default="json", description="avro needs log.kafka.registry")
    types: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="JSON without schemas: schema.table → column → decimal(scale), bytes or nanoseconds",
    )
    settle: Seconds = Field(
        default=2.0, description="without transaction metadata: how long a transaction's records may come apart"
    )

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for columns in types.values():
            for column, told in columns.items():
                if re.fullmatch(r"bytes|nanoseconds|decimal\(\d{1,3}\)", told) is None:
                    raise ValueError(f"the type of {column} must be decimal(scale), bytes or nanoseconds")
        return types


class EmbeddedSettings(Section):
    """An SQLite file on this machine as the log."""

    path: Path = Path("data/log/changes.sqlite")
    compaction_lag: float = Field(
        default=14 * 86_400.0, ge=3600, description="how long every step of a row is kept; then only its last record is"
    )


class LogSettings(Section):
    """Exactly one of `kafka` and `embedded`; embedded when neither is there. debezium: its topics instead of ours."""

    format: Literal["avro", "json"] = Field(
        default="avro", description="how records are written; both are read, whatever this says"
    )
    kafka: KafkaSettings | None = None
    debezium: DebeziumSettings | None = None
    embedded: EmbeddedSettings | None = None
    partitions: int = Field(default=4, ge=1, le=1000)
    memory: int = Field(default=32 * 1024 * 1024, ge=1024 * 1024, description="bytes of changes waiting for the log")
    largest_record: Size = Field(
        default=LARGEST_RECORD, ge=64 * 1024, le=LARGEST_RECORD, description="of one record, from 64kB to 16MB"
    )
    on_oversized: Literal["halt", "truncate"] = Field(
        default="halt", description="a record beyond largest_record: stop and say so, or cut the columns of `truncate`"
    )
    truncate: tuple[str, ...] = Field(
        default=(), description="columns that may be cut, as schema.table.column; with on_oversized: truncate"
    )

    @model_validator(mode="after")
    def _one_backend(self) -> LogSettings:
        if self.kafka is not None and self.embedded is not None:
            raise ValueError("choose one of 'kafka' and 'embedded'")
        if self.format == "json" and self.kafka is not None and self.kafka.registry is not None:
            raise ValueError("a registry is for 'format: avro'; records in JSON need none, so take 'registry' away")
        if self.on_oversized == "truncate" and not self.truncate:
            raise ValueError("on_oversized: truncate cuts only columns that 'truncate' names: [schema.table.column]")
        if self.truncate and self.on_oversized == "halt":
            raise ValueError("'truncate' names columns, but nothing is cut without on_oversized: truncate")
        if self.on_oversized == "truncate" and self.format == "json":
            raise ValueError("on_oversized: truncate is for 'format: avro'; with JSON a record that is too large halts")
        if self.debezium is not None:
            if self.kafka is None:
                raise ValueError("'debezium' needs 'kafka', where its topics are")
            if self.debezium.format == "avro" and self.kafka.registry is None:
                raise ValueError("'debezium' with format avro needs 'kafka.registry'")
        return self


class EmcSettings(Section):
    """EMC's address and what the guide leaves open (docs/emc.md)."""

    url: str = Field(default="https://f-emc.ngsp.gov.vn/TrackingMCDT", pattern=r"^https?://")
    plain_http: bool = Field(default=False, description="allow http:// to a host other than loopback (simulator only)")
    encoding: Literal["form", "json"] = "form"
    key_case: Literal["guide", "camel"] = "guide"
    user_key: Literal["User", "user"] = "User"
    numbers: Literal["number", "string"] = Field(default="number", description="in JSON only; a form has only text")
    null_payment: Literal["zero", "empty", "omit"] = "zero"
    officer_id: Literal["ID_local", "ID_QG"] = "ID_local"
    payment: Literal["with_result", "immediate"] = "with_result"
    other_post_online: bool = Field(
        default=False, description="whether a result by another post service than VNPost counts as online (report)"
    )
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    ca_file: Path | None = Field(default=None, description="PEM bundle to verify EMC with; default: the system's")
    failure_field: str | None = Field(default=None, description="top-level field of a JSON answer that tells failure")
    failure_values: tuple[str, ...] = Field(default=(), description="its values, as text, that mean failure")

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            known = bool(host.encode("idna")) and port != 0
        except ValueError:  # a bracket or a port that is none, a host name no resolver takes
            known = False
        if not known:
            raise ValueError("url must be https://host[:port]/path")
        return url

    @model_validator(mode="after")
    def _tls(self) -> EmcSettings:
        if self.url.startswith("http://") and not self.plain_http and not _loopback(self.url):
            raise ValueError("url must begin with https:// (plain http is for a simulator; see plain_http)")
        return self


class RetrySettings(Section):
    """Exponential backoff with full jitter."""

    initial: Seconds = 0.2
    maximum: Seconds = 60.0


class DeliverySettings(Section):
    """State and push."""

    state: Path = Field(default=Path("data/delivery"), description="directory of one SQLite file per partition")
    max_in_flight: int = Field(default=32, ge=1, le=1000)
    connect_timeout: Seconds = 5.0
    deadline: Seconds = Field(default=20.0, description="outer bound on one attempt, whatever it is doing")
    retry: RetrySettings = RetrySettings()
    ledger_days: int = Field(default=90, ge=1, description="how long delivered events stay in the ledger")
    after_compaction: Literal["halt", "continue"] = Field(
        default="halt", description="when steps that were not read yet have been compacted away"
    )


class ConsoleSettings(Section):
    """Status page, /metrics and /healthz."""

    listen: str = Field(default="127.0.0.1:8088", pattern=r"^[^:]*:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")


class ReconcileSettings(Section):
    """EMC's extract (docs/reconcile.md)."""

    columns: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="headings of the extract by the guide's parameter names, or Time"
    )


class Settings(Section):
    """One connector: one source database, one log, one EMC."""

    name: Name = Field(description="prefix of topics, slot and publication")
    source: SourceSettings
    log: LogSettings = LogSettings()
    emc: EmcSettings = EmcSettings()
    delivery: DeliverySettings = DeliverySettings()
    console: ConsoleSettings | None = ConsoleSettings()
    reconcile: ReconcileSettings = ReconcileSettings()

    @model_validator(mode="before")
    @classmethod
    def _without_database(cls, given: object) -> object:
        """With Debezium's topics there is no database of ours to be told of."""
        if isinstance(given, dict) and "source" not in given:
            log = given.get("log")
            if isinstance(log, dict) and log.get("debezium") is not None:
                return {**given, "source": {"dsn": ""}}
        return given

    @property
    def slot(self) -> str:
        return self.source.slot or f"emc_cdc_{self.name}".replace("-", "_")

    @property
    def publication(self) -> str:
        return self.source.publication or f"emc_cdc_{self.name}".replace("-", "_")

    @property
    def index(self) -> Path:
        """Where capture's keyed index is."""
        return self.source.data / f"{self.name}.index.sqlite"


def _loopback(url: str) -> bool:
    host = url.removeprefix("http://").split("/", 1)[0].rsplit("@", 1)[-1]
    host = host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.rsplit(":", 1)[0]
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
