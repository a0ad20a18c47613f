"""Real servers as pytest plugins; `tests/conftest.py` loads them."""
