"""The one part of the package that is compiled, when a compiler is there; everything else is in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Optional: where it cannot be built, pip says so and the package does the same in Python, more slowly.
        Extension("connector.source.decode.native", ["connector/source/decode/native.pyx"], optional=True),
    ]
)
