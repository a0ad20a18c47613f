"""A client of the Confluent Schema Registry REST API, as much of it as the log needs.

Contract: `register` gives the registry's id of a schema, `schema` the schema of an id; both are remembered for the
client's life. Every question is bounded in time and size, TLS is verified, redirects are not followed.
What may pass without us raises LogUnavailable, so that capture pauses and the slot keeps the place: no answer, 408,
429, 5xx, and 409. A 409 is either an incompatible schema, told with the column and the DDL behind it until somebody
lets it in, or, when the registry's own check does not confirm it, a passing state (its leader changes).
What only a change of the settings mends raises LogError: refused credentials, a redirect, an answer that is not the
API's. An answer's text is never repeated: it may hold anything.
"""

from __future__ import annotations

import json
import ssl
from time import monotonic
from typing import Any, Final
from urllib.parse import quote

import httpx

from connector.errors import LogError, LogUnavailable
from connector.log.schema_change import differences, record_name, table_of
from connector.settings import KafkaSettings, RegistrySettings

_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_LARGEST: Final = 16 * 1024 * 1024
"""Bytes of an answer; a schema is some kilobytes."""
_REGISTER: Final = "register a schema"
_RESOLVE: Final = "resolve a schema id"
_LOOK: Final = "ask for the compatibility level"


class Registry:
    """One registry, asked from one thread. `topic`: what TopicRecordName puts before the record's name."""

    def __init__(self, settings: RegistrySettings, topic: str, patience: float) -> None:
        """LogError for a ca_file that cannot be used. Touches no network."""
        self._url = settings.url.rstrip("/")
        self._topic = topic
        self._with_topic = settings.subjects == "TopicRecordName"
        self._patience = patience
        self._ids: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        auth = None
        if settings.username is not None:
            password = settings.password.get_secret_value() if settings.password is not None else ""
            auth = httpx.BasicAuth(settings.username, password)
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:  # ssl.SSLError is one
            mend = "give a PEM bundle of certificates that can be read in log.kafka.registry.ca_file"
            raise LogError("open the registry", str(settings.ca_file), "it holds no certificates", mend) from error
        # trust_env would take a proxy, and credentials of .netrc, from the environment.
        self._client = httpx.Client(
            auth=auth, verify=context, follow_redirects=False, timeout=patience, trust_env=False
        )

    def subject(self, schema: str) -> str:
        """The subject a schema is registered under."""
        name = record_name(schema)
        return f"{self._topic}-{name}" if self._with_topic else name

    def register(self, schema: str) -> int:
        """The registry's id of this schema; registering what is there already gives the same id."""
        known = self._ids.get(schema)
        if known is not None:
            return known
        subject = self.subject(schema)
        status, answer = self._ask(_REGISTER, "POST", f"/subjects/{quote(subject, safe='')}/versions", schema)
        if status == 409:
            raise self._conflict(subject, schema)
        number = self._id(subject, status, answer)
        self._ids[schema] = number
        return number

    def schema(self, schema_id: int) -> str:
        """The schema with this id. LogError when the registry does not know it."""
        known = self._texts.get(schema_id)
        if known is not None:
            return known
        status, answer = self._ask(_RESOLVE, "GET", f"/schemas/ids/{schema_id}")
        if status == 404:
            raise LogError(
                _RESOLVE,
                f"{self._url}, schema {schema_id}",
                "the registry does not know this id, but a record names it",
                "restore the registry's schemas, or set log.kafka.registry.url to the right registry",
            )
        text = self._text(schema_id, status, answer)
        self._texts[schema_id] = text
        return text

    def level(self) -> str:
        """The compatibility level in force where a subject has none of its own, e.g. BACKWARD."""
        status, answer = self._ask(_LOOK, "GET", "/config")
        value = answer.get("compatibilityLevel") if status == 200 and isinstance(answer, dict) else None
        if not isinstance(value, str) or not value.isascii() or not value.replace("_", "").isalpha():
            raise self._strange(_LOOK, f"it answered {status} without a compatibility level")
        return value

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _conflict(self, subject: str, schema: str) -> LogUnavailable:
        """What a 409 means: the registry's own check decides between an incompatible schema and a passing state."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions"
        status, answer = self._ask(_REGISTER, "POST", path, schema)
        if status == 404:  # registries before 7.0 check against one version only
            status, answer = self._ask(_REGISTER, "POST", f"{path}/latest", schema)
        if not (status == 200 and isinstance(answer, dict) and answer.get("is_compatible") is False):
            return self._unavailable(_REGISTER, "it answered 409, and its own check finds nothing incompatible")
        status, answer = self._ask(_REGISTER, "GET", f"/subjects/{quote(subject, safe='')}/versions/latest")
        old = answer.get("schema") if status == 200 and isinstance(answer, dict) else None
        found = differences(old, schema) if isinstance(old, str) else []
        told = "; ".join(f"column {each.column} {each.cause} ({each.ddl})" for each in found)
        return LogUnavailable(
            _REGISTER,
            f"{table_of(schema) or 'messages'}, subject {subject}",
            "the registry answered 409: the schema is incompatible: "
            + (told or "it differs from an earlier version, not from the last one"),
            "capture asks again and goes on once it is taken. If the readers of the topic can live with it: "
            f"curl -X PUT -H 'Content-Type: {_TYPE}' -d '{{\"compatibility\": \"NONE\"}}' "
            f"{self._url}/config/{quote(subject, safe='')}"
            " (back to the old level once capture has gone on); or delete the subject's versions: curl -X DELETE "
            f"{self._url}/subjects/{quote(subject, safe='')}",
        )

    def _ask(self, operation: str, method: str, path: str, schema: str | None = None) -> tuple[int, Any]:
        """One question; the status (200, 404, 409) and the JSON. Anything else is an error."""
        end = monotonic() + self._patience
        body = None if schema is None else json.dumps({"schema": schema, "schemaType": "AVRO"}).encode()
        headers = {"Accept": f"{_TYPE}, application/json", "Content-Type": _TYPE}
        try:
            with self._client.stream(method, self._url + path, content=body, headers=headers) as response:
                status = response.status_code
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    # The client's timeout is for each read; a trickle would pass it for ever.
                    if monotonic() > end:
                        raise self._unavailable(operation, f"its answer took longer than {self._patience:g} s")
                    if len(content) > _LARGEST:
                        raise self._strange(operation, f"its answer is larger than {_LARGEST} bytes")
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise LogError(
                    operation,
                    self._url,
                    "its TLS certificate is not one that can be trusted for this name",
                    "set log.kafka.registry.ca_file to the certificate authority's PEM, and url to the name it is for",
                ) from None
            raise self._unavailable(operation, f"no answer ({type(error).__name__})") from error
        if status >= 500 or status in (408, 429):
            raise self._unavailable(operation, f"it answered {status}")
        if status in (401, 403):
            raise LogError(
                operation,
                self._url,
                f"it answered {status}: the user is not known or may not do this",
                "set log.kafka.registry.username and password (${file:…}) to a user with read and write on the"
                " log's subjects",
            )
        if status not in (200, 404, 409):
            raise self._strange(operation, f"it answered {status}")
        try:
            return status, json.loads(bytes(content))
        except ValueError:
            if status == 200:
                raise self._strange(operation, "its answer is not JSON") from None
            return status, None

    def _id(self, subject: str, status: int, answer: Any) -> int:
        value = answer.get("id") if status == 200 and isinstance(answer, dict) else None
        # Four bytes of the wire format hold it.
        if type(value) is not int or not 0 < value < 2**31:
            raise self._strange(_REGISTER, f"it answered {status} without an id for {subject}")
        return value

    def _text(self, schema_id: int, status: int, answer: Any) -> str:
        value = answer.get("schema") if status == 200 and isinstance(answer, dict) else None
        if not isinstance(value, str):
            raise self._strange(_RESOLVE, f"it answered {status} without a schema for the id {schema_id}")
        return value

    def _unavailable(self, operation: str, cause: str) -> LogUnavailable:
        return LogUnavailable(
            operation, self._url, cause, "capture tries again by itself; look after the registry if this goes on"
        )

    def _strange(self, operation: str, cause: str) -> LogError:
        return LogError(
            operation, self._url, cause, "set log.kafka.registry.url to a Confluent Schema Registry's own address"
        )


def registry_of(settings: KafkaSettings, topic: str, patience: float) -> Registry | None:
    """The registry of a log's settings, None without one."""
    return None if settings.registry is None else Registry(settings.registry, topic, patience)
