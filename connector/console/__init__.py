"""What people and Prometheus see of a running part; fed only by observations."""
