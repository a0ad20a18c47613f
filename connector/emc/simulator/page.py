"""The simulator's page: what it got, newest first, in Vietnamese. Pure: data in, HTML out.

Invariant: everything that came from outside is escaped; the page loads nothing but itself, and the browser is told so
(`PAGE_HEADERS`).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from html import escape
from importlib import resources
from string import Template
from typing import Any

from connector.emc.rules import RESULT
from connector.emc.simulator.arrivals import Arrivals, Verdict
from connector.emc.simulator.faults import Fault

LIMIT = 100
"""How many requests the page shows."""

_VIETNAM = timezone(timedelta(hours=7))

# Only what moves is replaced, so that a filter being typed stays.
_SCRIPT = """
setInterval(async () => {
  if (document.hidden) return;
  try {
    const fresh = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const live = fresh.getElementById("live");
    if (live) document.getElementById("live").replaceChildren(...live.childNodes);
  } catch (stopped) { /* the simulator is not there; the page keeps what it has */ }
}, 2000);
"""

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        f"frame-ancestors 'none'; script-src 'sha256-{b64encode(sha256(_SCRIPT.encode()).digest()).decode()}'"
    ),
    "Cache-Control": "no-store",
}

_STATUS = {0: "Khác", 1: "Tiếp nhận", 2: "Đang xử lý", 3: "Trả kết quả"}
_FORM = {1: "Trực tuyến", 2: "Trực tiếp"}
_PAYMENT = {0: "Không thanh toán", 1: "Thanh toán trực tuyến", 2: "Thanh toán trực tiếp"}
_LEVEL = {4: "Toàn trình", 3: "Một phần", 0: "Cung cấp thông tin"}
_POST = {1: "Trả qua VNPost", 2: "Trả qua bưu chính khác"}
_TYPE = {1: "Doanh nghiệp", 2: "Cá nhân", 3: "Cán bộ một cửa"}

_VERDICTS = {"": "Mọi kết quả", "accepted": "Đã nhận", "refused": "Từ chối", "failed": "Sự cố giả lập"}

_SCRIPTED = {
    "status": "trả lỗi HTTP",
    "delay": "giữ yêu cầu",
    "drop_before": "ngắt kết nối trước khi nhận",
    "drop_answer": "nhận rồi ngắt, không trả lời",
    "garbage": "trả trang HTML thay cho câu trả lời",
    "failure_body": "trả 200 nhưng nội dung báo thất bại",
}


def _read(name: str) -> Template:
    return Template(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


_PAGE = _read("page.html")


def page(arrivals: Arrivals, path: str, active: Sequence[Fault], dossier: str, verdict: str) -> str:
    """The page, for dossiers whose number contains `dossier` and for one verdict; an unknown one shows all."""
    only = Verdict(verdict) if verdict in set(Verdict) else None
    code = dossier.strip()
    rows = "".join(map(_row, arrivals.latest(LIMIT, code, only)))
    filtered = bool(code) or only is not None
    return _PAGE.substitute(
        path=escape(path),
        dossier=escape(code),
        options="".join(
            f'<option value="{value}"{" selected" if value == (only or "") else ""}>{text}</option>'
            for value, text in _VERDICTS.items()
        ),
        clear='<a href="/">Bỏ lọc</a>' if filtered else "",
        counts=_counts(arrivals),
        notice=_notice(active),
        listing=_listing(rows, filtered),
        script=_SCRIPT,
    )


def _counts(arrivals: Arrivals) -> str:
    shown = (
        ("", "Hồ sơ", arrivals.dossiers),
        ("good", "Đã nhận", arrivals.counts[Verdict.ACCEPTED]),
        ("bad", "Từ chối", arrivals.counts[Verdict.REFUSED]),
        ("warn", "Sự cố giả lập", arrivals.counts[Verdict.FAILED]),
        ("warn", "Nhận nhưng mất trả lời", arrivals.lost),
    )
    return "".join(
        f'<div class="{kind if count else ""}"><dt>{label}</dt><dd>{f"{count:,}".replace(",", ".")}</dd></div>'
        for kind, label, count in shown
    )


def _notice(active: Sequence[Fault]) -> str:
    if not active:
        return ""
    told = "; ".join(_fault(fault) for fault in active)
    return f'<p class="notice">Đang giả lập sự cố: {told}.</p>'


def _fault(fault: Fault) -> str:
    told = _SCRIPTED[fault.kind]
    if fault.status is not None:
        told += f" {fault.status}"
    if fault.seconds is not None:
        told += f" {fault.seconds:g} giây"
    if fault.rate < 1:
        told += f", {fault.rate:.0%} số yêu cầu"
    if fault.match is not None:
        told += f", hồ sơ {escape(fault.match)}"
    return told


def _listing(rows: str, filtered: bool) -> str:
    if not rows:
        told = "Không có yêu cầu nào khớp bộ lọc." if filtered else "Chưa nhận được yêu cầu nào."
        return f'<p class="empty">{told}</p>'
    heads = "".join(f"<th>{label}</th>" for label in _LABELS)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


_LABELS = ("Lúc", "Mã hồ sơ", "Trạng thái", "Thủ tục", "Hình thức", "Người dùng", "Kết quả")


def _row(record: Mapping[str, Any]) -> str:
    parameters = record["parameters"]
    user = parameters.get("User") or {}
    at = datetime.fromtimestamp(record["at"], _VIETNAM)
    cells = (
        f'<span class="time">{at:%H:%M:%S}<span class="soft">{at:%d/%m/%Y} · {record["id"]}</span></span>',
        f'<span class="number">{_text(parameters.get("CodeProfile"))}</span>',
        f'<span class="number">{_word(_STATUS, parameters.get("Status"))}</span>',
        f"<span>{_text(parameters.get('NameTTHC'))}{_service(parameters)}</span>",
        f'<span class="number">{_word(_FORM, parameters.get("FormsReception"))}{_result(parameters)}</span>',
        f"<span>{_word(_TYPE, user.get('TYPE'))}{_soft(_text(user['LOCATION'])) if 'LOCATION' in user else ''}</span>",
        _outcome(record),
    )
    told = (f'<td data-label="{label}">{cell}</td>' for label, cell in zip(_LABELS, cells, strict=True))
    return f"<tr>{''.join(told)}</tr>"


def _service(parameters: Mapping[str, Any]) -> str:
    if "CodeTTHC" not in parameters:
        return ""
    return _soft(f"{_text(parameters['CodeTTHC'])} · {_word(_LEVEL, parameters.get('Level'))}")


def _result(parameters: Mapping[str, Any]) -> str:
    """What is told with a result only; shown at other statuses when it was sent by mistake."""
    payment, post = parameters.get("FormsPayments"), parameters.get("IsDVCBC")
    told = _soft(_word(_PAYMENT, payment)) if parameters.get("Status") == RESULT or payment else ""
    return told + (_soft(_word(_POST, post)) if post else "")


def _soft(text: str) -> str:
    return f'<span class="soft">{text}</span>'


def _outcome(record: Mapping[str, Any]) -> str:
    scripted = _SCRIPTED.get(record["scripted"] or "", "")
    match Verdict(record["verdict"]):
        case Verdict.ACCEPTED if record["answer"]["lost"]:
            mark = '<span class="mark warn">Nhận, mất trả lời</span>'
        case Verdict.ACCEPTED:
            mark = '<span class="mark good">Đã nhận</span>'
        case Verdict.REFUSED:
            mark = '<span class="mark bad">Từ chối</span>'
        case Verdict.FAILED:
            status = record["answer"]["status"]
            mark = f'<span class="mark warn">Sự cố</span> <span class="soft">{scripted} {status or ""}</span>'
    told = [("bad", each) for each in record["faults"]] + [("warn", each) for each in record["warnings"]]
    listed = "".join(f'<li class="{kind}">{_text(each["rule"])} · {_text(each["vi"])}</li>' for kind, each in told)
    return f"<div>{mark}{f'<ul>{listed}</ul>' if listed else ''}</div>"


def _text(value: Any) -> str:
    return "–" if value is None or value == "" else escape(str(value))


def _word(words: Mapping[int, str], value: Any) -> str:
    return words[value] if isinstance(value, int) and value in words else _text(value)
