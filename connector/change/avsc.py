"""The Avro schemas that `schemas/` shows: the envelope of an example table, and the envelope of messages.

Contract: the texts are what the connector registers, only indented; the example's columns are one of each common
kind. `schemas/` is compared with them by tests/test_schemas.py.

    python -m connector.change.avsc schemas
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from connector.change.envelope import message_schema, table_schema
from connector.change.shape import Column, Shape

NAME: Final = "mot-cua"
_EXAMPLE: Final = Shape(
    "public",
    "ho_so",
    (
        Column("id", 20, -1, True),  # bigint
        Column("ma_ho_so", 1043, 54, False),  # varchar(50)
        Column("trạng thái", 23, -1, False),  # integer; a name Avro does not take
        Column("le_phi", 1700, (12 << 16 | 2) + 4, False),  # numeric(12,2)
        Column("ngay_hen_tra", 1082, -1, False),  # date
        Column("cap_nhat", 1184, -1, False),  # timestamptz
        Column("da_huy", 16, -1, False),  # boolean
        Column("chi_tiet", 3802, -1, False),  # jsonb
    ),
)


def files() -> dict[str, str]:
    """File name → text."""
    return {
        "envelope.avsc": _indented(table_schema(NAME, "motcua", _EXAMPLE)),
        "message.avsc": _indented(message_schema(NAME)),
    }


def _indented(schema: str) -> str:
    return json.dumps(json.loads(schema), ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    """Write the files into the directory that is named."""
    for name, text in files().items():
        Path(sys.argv[1], name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
