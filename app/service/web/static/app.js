"use strict";
const byId = (id) => document.getElementById(id);
let csrf = null;
let picture = "fused";
let recording = false;
let lastLog = 0;

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(csrf ? { "X-CSRF-Token": csrf } : {}) },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    location.replace("/login");
    throw new Error("logged out");
  }
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error || answer.statusText);
  return data;
}

function tell(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

async function act(button, path, body, done) {
  button.disabled = true;
  try {
    const data = await ask(path, body);
    tell(done ? done(data) : "");
    await refresh();
    await listFiles();
  } catch (error) {
    tell(error.message);
  } finally {
    button.disabled = false;
  }
}

function number(value, unit, digits = 1) {
  return value === null || value === undefined ? "–" : value.toFixed(digits) + " " + unit;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 120) return seconds.toFixed(0) + " s";
  if (seconds < 7200) return (seconds / 60).toFixed(0) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}

function fill(list, items) {
  list.replaceChildren(...items);
}

function make(tag, text, name) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

async function refresh() {
  const status = await ask("/api/v1/status");
  const stats = status.stats;
  byId("rig").textContent = status.rig;
  const state = byId("state");
  state.textContent = status.safe_mode ? "safe mode" : status.state.replaceAll("_", " ");
  state.className = "pill " + (status.safe_mode || !status.ready ? "bad" : status.state === "running" ? "good" : "warn");
  recording = ["recording", "paused"].includes(stats.recording);
  byId("record").textContent = recording ? "Stop recording" : "Record";
  byId("record").classList.toggle("on", recording);
  const rows = [
    ["Engine", stats.engine + (stats.fallback_reason ? " (" + stats.fallback_reason + ")" : "")],
    ["Fused", number(stats.fps.fused, "fps")],
    ["Latency p95", number(stats.latency_ms.grab_to_fused.p95, "ms")],
    ["Skew p95", number(stats.skew_ms.p95, "ms")],
    ["Lost frames", String(Object.values(stats.drops).reduce((a, b) => a + b, 0))],
    ["Cameras", "visible " + stats.cameras.visible + ", thermal " + stats.cameras.thermal],
    ["Alignment", stats.budget ? stats.budget.level + ", " + number(stats.budget.total_px, "px") : "–"],
    ["Recording", stats.recording + (recording ? ", " + duration(stats.recorded_s) : "")],
    ["Disk lasts", duration(stats.disk_s_left)],
    ["Running for", duration(stats.uptime_s)],
  ];
  fill(byId("figures"), rows.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  fill(byId("warnings"), stats.warnings.map((text) => make("li", text)));
}

async function listFiles() {
  const data = await ask("/api/v1/recordings");
  fill(byId("recordings"), data.recordings.length ? data.recordings.slice(0, 50).map((entry) => {
    const item = document.createElement("li");
    const link = make("a", entry.name);
    link.href = "/api/v1/recordings/" + encodeURIComponent(entry.name);
    link.setAttribute("download", entry.name);
    const size = (entry.bytes / 1e6).toFixed(1) + " MB";
    item.append(link, make("span", entry.being_written ? "being written" : size + (entry.kept ? ", kept" : "")));
    return item;
  }) : [make("li", "None yet", "empty")]);
  fill(byId("snapshots"), data.snapshots.length ? data.snapshots.slice(0, 20).map((name) => {
    const item = document.createElement("li");
    const link = make("a", name);
    link.href = "/api/v1/snapshots/" + encodeURIComponent(name) + "/fused.png";
    item.append(link);
    return item;
  }) : [make("li", "None yet", "empty")]);
}

async function readLog() {
  const data = await ask("/api/v1/log?since=" + lastLog);
  const log = byId("log");
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  for (const line of data.lines) {
    lastLog = line.number;
    log.append(make("li", line.when.slice(11, 19) + " " + line.text, line.level));
  }
  while (log.children.length > 300) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function showPicture() {
  byId("preview").src = "/api/v1/preview.mjpg?picture=" + picture + "&t=" + Date.now();
}

async function beat() {
  try {
    await refresh();
    await readLog();
  } catch (error) {
    byId("state").textContent = "no connection";
    byId("state").className = "pill bad";
  }
}

byId("record").addEventListener("click", () => {
  const button = byId("record");
  if (recording) {
    act(button, "/api/v1/recording/stop", {}, (data) =>
      data.problems.length ? data.problems.join("; ") : "Recorded: " + data.files.join(", "));
  } else {
    act(button, "/api/v1/recording/start", { label: byId("label").value });
  }
});
byId("event").addEventListener("click", () =>
  act(byId("event"), "/api/v1/event", { label: byId("label").value }, () => "Event marked"));
byId("snapshot").addEventListener("click", () =>
  act(byId("snapshot"), "/api/v1/snapshot", {}, (data) => "Saved " + data.snapshot));
byId("set-engine").addEventListener("click", () =>
  act(byId("set-engine"), "/api/v1/engine", { name: byId("engine").value, preset: byId("preset").value },
    (data) => "Building " + data.asked_for));
byId("logout").addEventListener("click", async () => {
  await ask("/api/v1/logout", {});
  location.replace("/login");
});
for (const button of document.querySelectorAll("[data-picture]")) {
  button.addEventListener("click", () => {
    picture = button.dataset.picture;
    for (const other of document.querySelectorAll("[data-picture]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    showPicture();
  });
}
byId("preview").addEventListener("error", () => {
  byId("no-picture").hidden = false;
  setTimeout(showPicture, 3000);
});
byId("preview").addEventListener("load", () => { byId("no-picture").hidden = true; });

(async () => {
  const session = await ask("/api/v1/session");
  csrf = session.csrf;
  byId("logout").hidden = session.way !== "session";
  showPicture();
  await beat();
  await listFiles();
  setInterval(beat, 2000);
  setInterval(() => listFiles().catch(() => undefined), 10000);
})();
