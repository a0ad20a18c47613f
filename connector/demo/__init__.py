"""The demo: a private PostgreSQL, a legacy application that knows nothing of us, an oracle that checks the result."""
