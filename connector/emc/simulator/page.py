"""The simulator's page: what has arrived, newest first, for people who read Vietnamese. Pure: data in, HTML out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from connector.emc.simulator.kept import Received

_STATUS = {0: "Khác", 1: "Tiếp nhận", 2: "Đang xử lý", 3: "Trả kết quả"}
_FORM = {1: "Trực tuyến", 2: "Trực tiếp"}
_PAYMENT = {0: "Không", 1: "Trực tuyến", 2: "Trực tiếp"}
_POST = {0: "–", 1: "VNPost", 2: "Bưu chính khác"}
_VERDICTS = {"": "Tất cả", "nhan": "Đã nhận", "tu-choi": "Từ chối", "mat-tra-loi": "Mất trả lời"}

_STYLE = """
:root{color-scheme:light dark;--ink:#16202c;--soft:#5b6776;--line:#dfe4ea;--paper:#fff;--ground:#f4f6f8;--red:#b42318;
--green:#067647;--amber:#b54708;--brand:#0b5cad}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#2c3643;--paper:#161d26;--ground:#0e141b;
--red:#f97066;--green:#47cd89;--amber:#fdb022;--brand:#6bb3ff}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
header,main{max-width:1240px;margin:0 auto;padding:16px}h1{font-size:20px;margin:0}p{margin:4px 0;color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:14px 0}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.card b{display:block;font-size:24px;font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:13px}
form{display:flex;flex-wrap:wrap;gap:8px;margin:0 0 12px}input,select,button{font:inherit;padding:6px 10px;
border:1px solid var(--line);border-radius:8px;background:var(--paper);color:var(--ink)}button{background:var(--brand);
color:#fff;border:0}.wide{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:left;padding:7px 10px;
border-bottom:1px solid var(--line);white-space:nowrap}td.name{white-space:normal;min-width:220px}
th{color:var(--soft);font-weight:600;font-size:13px}tr:last-child td{border-bottom:0}.ok{color:var(--green)}
.bad{color:var(--red)}.lost{color:var(--amber)}.num{font-variant-numeric:tabular-nums}td.why{white-space:normal}
"""


def render(received: Sequence[Received], code: str, verdict: str, most: int) -> str:
    """The page, filtered by a part of the dossier number and by verdict, with at most `most` rows."""
    wanted = [
        one
        for one in reversed(received)
        if code.strip().lower() in str(one.parameters.get("CodeProfile", "")).lower() and _is(one, verdict)
    ]
    cards = (
        ("Yêu cầu đã đến", len(received)),
        ("Đã nhận", sum(one.accepted for one in received)),
        ("Từ chối", sum(not one.accepted for one in received)),
        ("Mất trả lời", sum(not one.answered for one in received)),
        ("Hồ sơ", len({one.parameters.get("CodeProfile") for one in received if one.accepted})),
    )
    options = "".join(
        f'<option value="{value}"{" selected" if value == verdict else ""}>{text}</option>'
        for value, text in _VERDICTS.items()
    )
    shown = "".join(f'<div class="card"><b>{_count(value)}</b><span>{name}</span></div>' for name, value in cards)
    rows = "".join(map(_row, wanted[:most])) or '<tr><td colspan="11">Chưa có yêu cầu nào.</td></tr>'
    heads = "".join(
        f"<th>{head}</th>"
        for head in (
            "Lúc",
            "Kết quả",
            "Mã hồ sơ",
            "Trạng thái",
            "Thủ tục",
            "Hình thức",
            "Thanh toán",
            "Mức độ",
            "Bưu chính",
            "Đơn vị",
            "Lý do từ chối",
        )
    )
    return (
        '<!doctype html><html lang="vi"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>EMC mô phỏng</title>'
        f"<style>{_STYLE}</style></head><body><header><h1>EMC mô phỏng</h1>"
        "<p>Kiểm tra từng yêu cầu TrackingMCDT theo công văn 1043/BTTTT-CĐSQG. Đây không phải hệ thống EMC thật.</p>"
        f'</header><main><div class="cards">{shown}</div><form method="get">'
        f'<input name="ho-so" placeholder="Mã hồ sơ" value="{escape(code)}"><select name="ket-qua">{options}</select>'
        f'<button>Lọc</button></form><div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>'
        f"</table></div><p>Hiện {_count(min(len(wanted), most))} trên {_count(len(wanted))} yêu cầu,"
        " mới nhất trước.</p>"
        "</main></body></html>"
    )


def _count(number: int) -> str:
    """Digits grouped with a dot, as Vietnamese writes them."""
    return f"{number:,}".replace(",", ".")


def _is(one: Received, verdict: str) -> bool:
    match verdict:
        case "nhan":
            return one.accepted
        case "tu-choi":
            return not one.accepted
        case "mat-tra-loi":
            return not one.answered
        case _:
            return True


def _row(one: Received) -> str:
    parameters = one.parameters
    user = parameters.get("User")
    location = user.get("LOCATION", "") if isinstance(user, dict) else ""
    if not one.accepted:
        verdict = '<span class="bad">✗ Từ chối</span>'
    elif not one.answered:
        verdict = '<span class="lost">⚠ Đã nhận, mất trả lời</span>'
    else:
        verdict = '<span class="ok">✓ Đã nhận</span>'
    at = datetime.fromtimestamp(one.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    procedure = f"{parameters.get('CodeTTHC', '')} {parameters.get('NameTTHC', '')}"
    return (
        f'<tr><td class="num">{at}</td><td>{verdict}</td><td class="num">{_text(parameters.get("CodeProfile"))}</td>'
        f'<td>{_word(_STATUS, parameters.get("Status"))}</td><td class="name">{escape(procedure)}</td>'
        f"<td>{_word(_FORM, parameters.get('FormsReception'))}</td>"
        f"<td>{_word(_PAYMENT, parameters.get('FormsPayments'))}</td><td>{_text(parameters.get('Level'))}</td>"
        f'<td>{_word(_POST, parameters.get("IsDVCBC"))}</td><td class="num">{_text(location)}</td>'
        f'<td class="why bad">{escape("; ".join(one.faults))}</td></tr>'
    )


def _text(value: object) -> str:
    return escape("" if value is None else str(value))


def _word(words: dict[int, str], value: object) -> str:
    return escape(words[value]) if isinstance(value, int) and value in words else _text(value)
