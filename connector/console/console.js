"use strict";
// Everything shown is set as text, never as HTML: dossier numbers and reasons come from other systems.
const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("vi-VN");
const STATUS = { 0: "Khác", 1: "Tiếp nhận", 2: "Đang xử lý", 3: "Trả kết quả" };
const OUTCOME = { delivered: ["EMC đã nhận", "good"], retry: ["sẽ gửi lại", "warn"], rejected: ["EMC từ chối", "bad"] };
const SOURCE = {
  connected: "đang nhận", disconnected: "mất kết nối", snapshot: "đang đọc ban đầu", off: "không ở tiến trình này",
};

function set(id, text) { byId(id).textContent = text; }
function time(seconds) { return new Date(seconds * 1000).toLocaleTimeString("vi-VN", { hour12: false }); }
function ms(value) { return value === null || value === undefined ? "–" : `${number.format(value)} ms`; }
function span(seconds) {
  const s = Math.floor(seconds), h = Math.floor(s / 3600), m = Math.floor((s % 3600) / 60);
  return h ? `${h} giờ ${m} phút` : m ? `${m} phút ${s % 60} giây` : `${s} giây`;
}
function lsn(value) {
  if (!value) return "–";
  const big = BigInt(value);
  return `${(big >> 32n).toString(16).toUpperCase()}/${(big & 0xffffffffn).toString(16).toUpperCase()}`;
}
function row(cells) {
  const line = document.createElement("tr");
  for (const [text, kind] of cells) {
    const cell = document.createElement("td");
    cell.textContent = text;
    if (kind) cell.className = kind;
    line.append(cell);
  }
  return line;
}

function show(board) {
  const health = byId("health");
  health.textContent = board.healthy ? "hoạt động bình thường" : board.reasons.join("; ");
  health.className = `pill ${board.healthy ? "good" : "bad"}`;
  set("uptime", `đã chạy ${span(board.uptime)}`);
  const source = board.source;
  set("source", SOURCE[source.state] || source.state);
  set("source-more", source.confirmed ? `đã xác nhận LSN ${lsn(source.confirmed)}` : source.reason);
  set("changes", number.format(board.log.changes));
  set("log-more", `${number.format(board.log.changes_per_second)} thay đổi/giây · ${number.format(board.log.transactions)} giao dịch`);
  set("waiting", number.format(board.waiting));
  set("outbox-more", `${number.format(board.due)} sự kiện đã sinh`);
  set("delivered", number.format(board.pushes.delivered));
  set("emc-more", `${number.format(board.pushes.retry)} lần gửi lại · ${number.format(board.pushes.rejected)} bị từ chối`);
  set("p50", ms(board.latency_ms.p50));
  set("p99", ms(board.latency_ms.p99));
  set("lag", number.format(board.lag));
  set("ambiguous", number.format(board.pushes.ambiguous));
  set("parked", number.format(board.parked_dossiers));

  byId("faults-section").hidden = board.faults.length === 0;
  byId("faults").replaceChildren(...board.faults.slice(0, 5).map((fault) => {
    const box = document.createElement("div");
    box.className = fault.fatal ? "fault fatal" : "fault";
    const head = document.createElement("div");
    head.textContent = `${time(fault.at)} · ${fault.operation} · ${fault.subject}: ${fault.cause}`;
    const mend = document.createElement("pre");
    mend.textContent = `→ ${fault.mend}`;
    box.append(head, mend);
    return box;
  }));

  byId("parked-section").hidden = board.parked.length === 0;
  byId("parked-rows").replaceChildren(...board.parked.map((one) => row([[time(one.at), "num"], [one.code, "num"], [one.reason, "why"]])));

  const tables = Object.entries(board.snapshot);
  byId("snapshot-section").hidden = tables.length === 0 || tables.every(([, one]) => one.finished);
  byId("snapshot-rows").replaceChildren(...tables.map(([name, one]) => row([[name], [number.format(one.rows), "num"], [one.finished ? "xong" : "đang đọc"]])));

  byId("events").replaceChildren(...board.events.slice(0, 30).map((event) => {
    const [word, kind] = OUTCOME[event.outcome] || [event.outcome, ""];
    return row([[time(event.at), "num"], [event.code, "num"], [STATUS[event.status] || event.status], [word, kind],
      [event.attempt, "num"], [ms(event.since_commit_ms), "num"], [event.reason, "why"]]);
  }));
}

async function refresh() {
  try {
    show(await (await fetch("/board.json", { cache: "no-store" })).json());
  } catch {
    const health = byId("health");
    health.textContent = "không liên lạc được với tiến trình";
    health.className = "pill bad";
  }
  setTimeout(refresh, 1000);
}
refresh();
