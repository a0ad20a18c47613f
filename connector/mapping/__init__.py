"""YAML → plan → facts. Pure."""
