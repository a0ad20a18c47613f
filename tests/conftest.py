"""What every test may ask for: the servers of tests/plugins."""

pytest_plugins = ["plugins.kafka", "plugins.postgres"]
