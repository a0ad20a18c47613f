"""Kafka's own command lines (kafka-configs.sh, …) for the tests, out of the broker's jars.

Contract: `kafka_tools` runs lines as a person would type them into a shell, in a directory of their own, and returns
what they print; a line that fails is an error with its text.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from plugins.kafka import SMALL_JAVA, libraries

_MAINS = {
    "kafka-acls.sh": "kafka.admin.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-reassign-partitions.sh": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
}
_LOG4J = "log4j.rootLogger=OFF\n"


class KafkaTools:
    """The commands as scripts in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        scripts = directory / "bin"
        scripts.mkdir(parents=True)
        (directory / "log4j.properties").write_text(_LOG4J, encoding="ascii")
        log4j = f"-Dlog4j.configuration=file:{directory}/log4j.properties"
        for name, main in _MAINS.items():
            java = shlex.join(["java", *SMALL_JAVA, log4j, "-cp", f"{libraries()}/*", main])
            (scripts / name).write_text(f'#!/bin/sh\nexec {java} "$@"\n', encoding="utf-8")
            (scripts / name).chmod(0o755)

    def run(self, lines: Sequence[str]) -> str:
        """Run lines in a shell, one after the other."""
        ran = subprocess.run(
            ["/bin/sh", "-e", "-c", "\n".join(lines)],
            cwd=self.directory,
            # Java reads its arguments as the locale says.
            env=os.environ | {"PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{lines}\n{ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr


@pytest.fixture
def kafka_tools(tmp_path: Path) -> KafkaTools:
    """Kafka's own command lines."""
    return KafkaTools(tmp_path / "kafka-tools")
