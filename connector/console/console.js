"use strict";
// Everything shown is set as text, never as HTML: dossier numbers and reasons come from other systems.
const byId = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat("vi-VN", { maximumFractionDigits: 1 });
const STATUS = { 0: "Khác", 1: "Đã tiếp nhận", 2: "Đang xử lý", 3: "Trả kết quả" };
const OUTCOME = { delivered: ["EMC đã nhận", "good"], retry: ["Sẽ gửi lại", "warn"], rejected: ["EMC từ chối", "bad"] };
const SOURCE = {
  connected: ["Đang nhận", "good"],
  disconnected: ["Mất kết nối", "bad"],
  snapshot: ["Đang đọc ban đầu", "warn"],
  off: ["–", "off"],
};
const TROUBLE = {
  stopped: "Đã dừng vì sự cố",
  disconnected: "Chưa nhận được thay đổi từ PostgreSQL",
  over_budget: "Slot giữ lại quá nhiều WAL trên máy chủ PostgreSQL",
  stalled: "Xử lý bị đứng",
};
const PART = { capture: "thu nhận", deliver: "gửi" };

const count = (value) => numbers.format(value);
const set = (id, text) => { byId(id).textContent = text; };
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("vi-VN", { hour12: false });

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} ngày ${hours} giờ`;
  if (hours) return `${hours} giờ ${minutes} phút`;
  return minutes ? `${minutes} phút ${whole % 60} giây` : `${whole} giây`;
}
function latency(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${count(ms)} ms`;
  return ms < 60000 ? `${count(ms / 1000)} giây` : duration(ms / 1000);
}
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit += 1) bytes /= 1024;
  return `${count(bytes)} ${units[unit]}`;
}
// 180003 is 18.3, 90603 would be 9.6.3: from 10 on, major and minor.
const version = (number) => (number ? `PostgreSQL ${Math.floor(number / 10000)}.${number % 10000}` : "PostgreSQL");

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function row(cells) {
  const line = document.createElement("tr");
  line.append(...cells.map(([text, kind]) => element("td", text, kind)));
  return line;
}
function stage(id, kind) { byId(id).className = kind; }

function showHealth(board) {
  const health = byId("health");
  health.textContent = board.healthy ? "Hoạt động bình thường" : "Cần xem lại";
  health.className = `pill ${board.healthy ? "good" : "bad"}`;
  document.title = `${board.healthy ? "" : "⚠ "}emc-cdc · bảng theo dõi`;
  set("uptime", `đã chạy ${duration(board.uptime)}`);
  byId("troubles").hidden = board.healthy;
  byId("troubles").replaceChildren(
    ...board.troubles.map((one) => element("li", `${TROUBLE[one.code] || one.code}: ${one.detail}`)),
  );
}

function showFlow(board) {
  const { source, log, pushes } = board;
  const [state, kind] = SOURCE[source.state] || [source.state, ""];
  const captures = source.state !== "off";
  const delivers = board.partitions.length > 0;
  stage("stage-source", kind);
  set("source", state);
  set("source-what", !captures ? "tiến trình này chưa thu nhận"
    : source.state === "snapshot" ? "chép các bảng lần đầu" : version(source.server_version));
  const behind = Math.max(0, (source.server_end || 0) - (source.confirmed || 0));
  const slot = source.slot ? `slot ${source.slot}` : "";
  const kept = source.retained ? `, giữ ${size(source.retained)}` : "";
  set("source-more", slot && source.confirmed ? `${slot} · còn ${size(behind)} WAL${kept}` : slot);

  stage("stage-log", captures || log.changes ? "good" : "off");
  set("changes", count(log.changes));
  set("log-more", `${count(log.changes_per_second)}/giây · ${count(log.transactions)} giao dịch`);

  stage("stage-state", delivers ? (board.lag_seconds > 60 ? "warn" : "good") : "off");
  set("lag", !delivers ? "–" : board.lag ? count(board.lag) : "Đã theo kịp");
  set("lag-what", !delivers ? "tiến trình này chưa xử lý" : board.lag
    ? `bản ghi chưa xử lý, chậm ${duration(board.lag_seconds)}` : "không còn bản ghi chưa xử lý");
  const recovered = board.recovered ? `, ${count(board.recovered)} gửi bù` : "";
  set("state-more", delivers ? `${count(board.due)} sự kiện đã sinh${recovered}` : "");

  const troubled = board.events.length > 0 && board.events[0].outcome === "retry";
  stage("stage-emc", delivers ? (board.parked_dossiers || troubled ? "warn" : "good") : "off");
  set("delivered", count(pushes.delivered));
  set("emc-more", `${count(pushes.delivered_per_second)}/giây · ${count(pushes.retry)} lần gửi lại · ${count(pushes.rejected)} bị từ chối`);

  set("p50", latency(board.latency_ms.p50));
  set("p99", latency(board.latency_ms.p99));
  set("waiting", count(board.waiting));
  set("ambiguous", count(pushes.ambiguous));
  set("parked", count(board.parked_dossiers));
  byId("parked").className = board.parked_dossiers ? "bad" : "";
  byId("ambiguous").className = pushes.ambiguous ? "warn" : "";
}

function showEvents(events) {
  byId("no-events").hidden = events.length > 0;
  byId("events").replaceChildren(...events.flatMap((event) => {
    const [word, kind] = OUTCOME[event.outcome] || [event.outcome, ""];
    const line = row([
      [clock(event.at), "time"],
      [event.code, "code"],
      [(STATUS[event.status] || String(event.status)) + (event.recovered ? " (gửi bù)" : ""), "status"],
      [event.ambiguous ? `${word}, chưa rõ` : word, `outcome ${kind}`],
      [String(event.attempt), "num attempt"],
      [latency(event.since_commit_ms), "num latency"],
    ]);
    if (!event.reason) return [line];
    line.className = "said";
    const saying = row([[event.reason, ""]]);
    saying.className = "saying";
    saying.firstChild.colSpan = 6;
    return [line, saying];
  }));
}

function showParked(parked, total) {
  byId("parked-section").hidden = parked.length === 0;
  const shown = parked.map((one) => {
    const line = document.createElement("li");
    line.append(element("b", one.code), element("span", clock(one.at), "soft"), element("p", one.reason));
    return line;
  });
  if (total > parked.length) shown.push(element("li", `… và ${count(total - parked.length)} hồ sơ khác`, "soft"));
  byId("parked-rows").replaceChildren(...shown);
}

function showFaults(faults) {
  byId("faults-section").hidden = faults.length === 0;
  byId("faults").replaceChildren(...faults.slice(0, 6).map((fault) => {
    const box = element("div", undefined, fault.fatal ? "fault fatal" : "fault");
    const when = fault.count > 1 ? `${clock(fault.first_at)} – ${clock(fault.at)}, ${count(fault.count)} lần` : clock(fault.at);
    const part = PART[fault.part] || fault.part;
    box.append(
      element("div", `${when} · phần ${part}${fault.fatal ? " · đã dừng" : ""}`, "soft"),
      element("b", `${fault.operation}: ${fault.subject}`),
      element("div", fault.cause),
      element("pre", fault.mend),
    );
    return box;
  }));
}

function reading(one) {
  if (one.finished) return `${count(one.rows)} dòng, xong`;
  const pace = one.rows_per_second ? `, ${count(one.rows_per_second)} dòng/giây` : "";
  const left = one.seconds_left === null ? "" : `, còn khoảng ${count(one.seconds_left)} giây`;
  return `${count(one.rows)} dòng${pace}${left}`;
}

function showSnapshot(tables) {
  const all = Object.entries(tables);
  byId("snapshot-section").hidden = all.every(([, one]) => one.finished);
  byId("snapshot").replaceChildren(...all.map(([name, one]) => {
    const box = element("div", undefined, "reading");
    box.append(element("span", name), element("span", reading(one), "num"));
    const bar = document.createElement("progress");
    if (one.finished || one.estimate > 0) {
      bar.max = one.finished ? 1 : Math.max(one.estimate, one.rows, 1);
      bar.value = one.finished ? 1 : one.rows;
    }
    box.append(bar);
    return box;
  }));
}

function showPartitions(partitions) {
  byId("partitions-section").hidden = partitions.length === 0;
  byId("partitions").replaceChildren(...partitions.map((one) => row([
    [String(one.partition)], [count(one.folded), "num"], [count(one.lag), one.lag ? "num warn" : "num"],
    [count(one.waiting), "num"], [count(one.parked), one.parked ? "num bad" : "num"],
  ])));
}

async function refresh() {
  try {
    const answer = await fetch("/board.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    const board = await answer.json();
    showHealth(board);
    showFlow(board);
    showEvents(board.events.slice(0, 60));
    showParked(board.parked, board.parked_dossiers);
    showFaults(board.faults);
    showSnapshot(board.snapshot);
    showPartitions(board.partitions);
    set("refreshed", `Cập nhật lúc ${clock(board.now)}`);
    document.body.classList.remove("stale");
  } catch {
    const health = byId("health");
    health.textContent = "Không liên lạc được với tiến trình";
    health.className = "pill bad";
    document.body.classList.add("stale");
  }
  setTimeout(refresh, 1000);
}
refresh();
