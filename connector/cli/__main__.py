"""`python -m connector.cli` is `emc-cdc`."""

from connector.cli import main

main()
