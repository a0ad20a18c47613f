"""A real Kafka broker that asks who one is and what one may: SASL over TLS, client certificates, and ACLs.

Contract: `secure_kafka` starts it at its first use. Its listener without TLS is its administrator's (ANONYMOUS may do
everything); nobody else may do anything that a test has not granted. The authority that signed its certificate is made
for the run; the certificate is for 127.0.0.1 and for nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from plugins.kafka import KafkaBroker, free_port

_PROPERTIES = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},LOGIN://127.0.0.1:{login},\
CERTIFICATE://127.0.0.1:{certificate}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},LOGIN://127.0.0.1:{login},CERTIFICATE://127.0.0.1:{certificate}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL,CERTIFICATE:SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.certificate.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.login.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_capture="{password}" user_deliver="{password}" \
user_admin="{password}";
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""

PASSWORD = "mật-khẩu-Kafka-7f3a"
"""Of the users capture and deliver."""

_SCRAM = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)


def _escaped(text: str) -> str:
    """For a properties file, which is Latin-1."""
    return text.encode("unicode_escape").decode("ascii").replace("\\x", "\\u00")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files of a client certificate; `key` has no password."""

    certificate: Path
    key: Path


class SecureKafka:
    """The broker with its listeners: `login` wants SASL over TLS, `certificate` a client's certificate."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.authority = directory / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.authority))
        login, certificate = free_port(), free_port()
        self.login, self.certificate = f"127.0.0.1:{login}", f"127.0.0.1:{certificate}"
        own = self.issue("broker", "127.0.0.1")
        keystore = directory / "keystore.pem"
        keystore.write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
        more = _PROPERTIES.format(
            login=login, certificate=certificate, keystore=keystore, authority=self.authority,
            password=_escaped(PASSWORD),
        )  # fmt: skip
        self.broker = KafkaBroker(directory / "broker", more=more)

    def issue(self, name: str, *identities: str) -> Certificate:
        """A certificate of the authority's, with its key as Java reads it, too."""
        made = self._authority.issue_cert(
            *identities, common_name=name, organization_name="emc-cdc", organization_unit_name="tests"
        )
        files = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        files.certificate.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def admin_file(self, directory: Path) -> None:
        """Write admin.properties, with which Kafka's own commands come in as the administrator."""
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        lines = (
            "security.protocol=SASL_SSL",
            "sasl.mechanism=PLAIN",
            f'sasl.jaas.config={login} username="admin" password="{_escaped(PASSWORD)}";',
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self.authority}",
        )
        (directory / "admin.properties").write_text("\n".join(lines) + "\n", encoding="ascii")

    @cached_property
    def admin(self) -> AdminClient:
        """The administrator's client."""
        return AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})

    def start(self) -> None:
        """Start, and make the users that log in by SCRAM."""
        self.broker.start()
        for user in ("capture", "deliver"):
            for mechanism in _SCRAM:
                wanted = UserScramCredentialUpsertion(
                    user, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode("utf-8")
                )
                for future in self.admin.alter_user_scram_credentials([wanted]).values():
                    future.result(20)

    def grant(self, principal: str, kind: str, name: str, *operations: str) -> None:
        """Allow a user operations on a topic, group, transactional_id or broker (the cluster)."""
        bindings = [
            AclBinding(
                ResourceType[kind.upper()],
                name,
                ResourcePatternType.LITERAL,
                principal,
                "*",
                AclOperation[operation.upper()],
                AclPermissionType.ALLOW,
            )
            for operation in operations
        ]
        for future in self.admin.create_acls(bindings).values():
            future.result(20)

    def revoke_all(self) -> None:
        """Nobody may do anything any more."""
        everything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        for future in self.admin.delete_acls([everything]).values():
            future.result(20)


@pytest.fixture(scope="session")
def _secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    directory = tmp_path_factory.mktemp("secure-kafka")
    secure = SecureKafka(directory)
    try:
        secure.start()
        yield secure
    finally:
        secure.broker.kill()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def secure_kafka(_secure_kafka: SecureKafka) -> SecureKafka:
    """The run's broker that asks who one is; nobody has been granted anything."""
    _secure_kafka.revoke_all()
    return _secure_kafka
