// Live refresh, and dates relative to now. The page is complete without this file.
//
// Every `data-refresh` seconds the page asks for itself (its ETag makes that a 304 while nothing
// changed) and exchanges those `[data-live]` parts that differ. What a person is doing stays:
// opened details, the focus, a scrolled table.

const main = document.querySelector("main");
const status = document.getElementById("live-status");
const every = Number(main.dataset.refresh || 0) * 1000;
const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function ago(ms) {
  const seconds = (ms - Date.now()) / 1000;
  const [unit, size] = units.find(([, s]) => Math.abs(seconds) >= s) ?? units[3];
  return relative.format(Math.round(seconds / size), unit);
}

function writeTimes() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    time.title ||= `${time.textContent} UTC`;
    time.textContent = ago(Date.parse(time.dateTime));
  }
}

// What the server sent last, by id: the document itself is changed by `writeTimes`.
const sent = new Map();
for (const part of document.querySelectorAll("[data-live]")) sent.set(part.id, part.outerHTML);

function exchange(next) {
  let changed = 0;
  for (const fresh of next.querySelectorAll("[data-live]")) {
    const now = document.getElementById(fresh.id);
    const text = fresh.outerHTML;
    if (!now || sent.get(fresh.id) === text) continue;
    if (now.contains(document.activeElement) && document.activeElement.matches("input, select, button")) continue;
    const open = [...now.querySelectorAll("details")].map((d) => d.open);
    const scrolled = [...now.querySelectorAll(".scroll, .chart")].map((s) => [s.scrollLeft, s.scrollTop]);
    const part = document.importNode(fresh, true);
    part.querySelectorAll("details").forEach((d, i) => { d.open = open[i] ?? false; });
    now.replaceWith(part);
    part.querySelectorAll(".scroll, .chart").forEach((s, i) => { if (scrolled[i]) [s.scrollLeft, s.scrollTop] = scrolled[i]; });
    sent.set(fresh.id, text);
    changed += 1;
  }
  return changed;
}

let etag = null;
let since = Date.now();
let failures = 0;

function say(state, text) {
  if (!status) return;
  status.hidden = false;
  status.dataset.state = state;
  if (status.textContent !== text) status.textContent = text;
}

async function refresh() {
  const wait = Math.min(every * 2 ** failures, 60000);
  if (document.visibilityState === "visible") {
    try {
      const answer = await fetch(location.pathname + location.search, {
        headers: etag ? { "If-None-Match": etag } : {},
        cache: "no-store",
        signal: AbortSignal.timeout(15000),
      });
      if (answer.redirected) return location.reload();
      if (answer.status === 200) {
        etag = answer.headers.get("ETag");
        exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } else if (answer.status !== 304) {
        throw new Error(`status ${answer.status}`);
      }
      failures = 0;
      since = Date.now();
      writeTimes();
      say("on", "live");
    } catch {
      failures += 1;
      say("off", `no answer since ${ago(since)}`);
    }
  }
  setTimeout(refresh, Math.max(wait, every));
}

writeTimes();
if (every) {
  say("on", "live");
  setTimeout(refresh, every);
}
