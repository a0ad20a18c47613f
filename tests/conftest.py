"""What every test may ask for: the servers of tests/plugins."""

from hypothesis import settings

pytest_plugins = [
    "plugins.kafka",
    "plugins.kafka_cluster",
    "plugins.kafka_secure",
    "plugins.kafka_tools",
    "plugins.postgres",
]

# No test may fail because a machine is busy: speed is measured in bench/ only.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
