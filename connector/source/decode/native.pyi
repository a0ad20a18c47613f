from collections.abc import Callable

KINDS: dict[str, int]

Field = tuple[str, int, bool, bool, bool, bool, Callable[[bytes], bytes]]

class Rows:
    def __init__(
        self,
        table: str,
        fields: list[Field | None],
        escape: Callable[[bytes], bytes],
        errors: tuple[type[BaseException], ...],
    ) -> None: ...
    def tuple_row(self, data: bytes, at: int) -> tuple[bytes, bytes, bytes | None, int] | None: ...

def record(
    head: bytes,
    row: bytes,
    second: bytes,
    context: bytes,
    data: bytes,
    ordinal: int,
    op: bytes,
    identity: bytes,
    order: int,
) -> bytes: ...
def murmur2(data: bytes) -> int: ...
