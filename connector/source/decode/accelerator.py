"""Whether the compiled hot path is there: `native` is the module, or None where it could not be built.

The package then does the same in Python, at about half the speed (docs/decisions/0006-native-hot-path.md).
"""

from __future__ import annotations

from types import ModuleType

native: ModuleType | None
try:
    from connector.source.decode import native as native
except ImportError:
    native = None
