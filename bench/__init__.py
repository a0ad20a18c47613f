"""What `make bench` measures: ours beside its peers, on the same database and the same broker, in one run."""
