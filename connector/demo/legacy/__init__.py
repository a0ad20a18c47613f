"""The legacy one-stop application "Một cửa" of the demo.

Contract: a program of its own, which knows nothing of the connector and imports nothing of it but this package
(tests/demo/test_isolation.py). It works on its own schema `motcua` with plain connections and plain transactions.
"""
