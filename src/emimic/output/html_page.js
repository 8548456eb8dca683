"use strict";
// The cursor over the curves: it follows the player, and the player follows it.
const data = JSON.parse(document.getElementById("data").textContent);
const [view, sheet, cursor, axis, time] = ["view", "sheet", "cursor", "axis", "time"].map((id) => document.getElementById(id));
const player = document.querySelector("audio");
const video = document.querySelector("video"); // muted: it follows the sound
const [drawings, names] = ["#sheet > svg", ".names > div"].map((rows) => [...document.querySelectorAll(rows)]);
const cells = [...document.querySelectorAll(".names .value")];
const most = Math.min(32, Math.max(1, data.seconds / 15));
let now = 0, zoom = 1;

function clock(t, digits) {
  const tenths = Math.round(t * 10 ** digits) / 10 ** digits, s = tenths % 60, m = Math.floor(tenths / 60);
  const tail = s.toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return m < 60 ? `${m}:${tail}` : `${Math.floor(m / 60)}:${String(m % 60).padStart(2, "0")}:${tail}`;
}

// The value nearest to a time in a sorted list of times; null in a gap and beyond the ends.
function at(curve, t) {
  let low = 0, high = curve.times.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (curve.times[middle] <= t) low = middle; else high = middle;
  }
  const i = Math.abs(curve.times[low] - t) <= Math.abs(curve.times[high] - t) ? low : high;
  return Math.abs(curve.times[i] - t) <= curve.reach ? curve.values[i] : null;
}

function show() {
  const x = data.seconds ? now / data.seconds : 0, spoken = [];
  cursor.style.left = `${100 * x}%`;
  time.textContent = clock(now, 1);
  data.curves.forEach((curve, i) => {
    const value = at(curve, now);
    const text = value === null ? "–" : value.toFixed(2).replace("-", "−");
    if (cells[i].textContent !== text) cells[i].textContent = text;
    spoken.push(`${curve.name} ${value === null ? "no value" : text}`);
  });
  sheet.setAttribute("aria-valuenow", now.toFixed(2));
  sheet.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds. ${spoken.join(", ")}`);
  const left = x * sheet.clientWidth - view.scrollLeft;
  if (zoom > 1 && (left < 0 || left > view.clientWidth)) view.scrollLeft += left - view.clientWidth / 4;
}

function seek(t) {
  now = Math.min(data.seconds, Math.max(0, t));
  player.currentTime = now;
  show();
}

function picture() {
  if (!video || video.hidden) return;
  if (player.paused !== video.paused) player.paused ? video.pause() : video.play().catch(() => {});
  video.playbackRate = player.playbackRate;
  if (Math.abs(video.currentTime - player.currentTime) > 0.15) video.currentTime = player.currentTime;
}

function follow() {
  picture();
  now = Math.min(data.seconds, player.currentTime);
  show();
  if (!player.paused && !player.ended) requestAnimationFrame(follow);
}

// Times under the curves, at least 80 pixels apart.
function ticks() {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const step = steps.find((s) => (s / data.seconds) * sheet.clientWidth >= 80) || 7200;
  axis.replaceChildren();
  for (let i = 0; i * step < data.seconds; i++) {
    const mark = document.createElement("span");
    mark.textContent = clock(i * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
    mark.style.left = `${(100 * i * step) / data.seconds}%`;
    axis.append(mark);
  }
}

function magnify(factor) {
  const middle = now / data.seconds;
  zoom = Math.min(most, Math.max(1, zoom * factor));
  sheet.classList.toggle("magnified", zoom > 2);
  sheet.style.width = `${100 * zoom}%`;
  view.scrollLeft = middle * sheet.clientWidth - view.clientWidth / 2;
  ticks();
  show();
}

// Each curve over its own values, or over the range that its kind shares.
function fit(on) {
  document.getElementById("heights").setAttribute("aria-pressed", on);
  data.curves.forEach((curve, i) => {
    const own = on && curve.lowest !== null;
    const middle = (curve.lowest + curve.highest) / 2, half = Math.max(0.01, (curve.highest - curve.lowest) / 2);
    const [low, high] = own ? [middle - half, middle + half] : [curve.low, curve.high];
    const scale = 96 / (curve.high - curve.low), y = (value) => 98 - scale * (value - curve.low);
    const [top, bottom] = own ? [y(high) - 2, y(low) + 2] : [0, 100];
    drawings[i + 1].setAttribute("viewBox", `0 ${top} 1000 ${bottom - top}`);
    const text = (value) => String(Number(value.toFixed(own ? 3 : 1))).replace("-", "−");
    names[i + 1].querySelector(".top").textContent = text(high);
    names[i + 1].querySelector(".bottom").textContent = text(low);
  });
}

function point(event) {
  const box = sheet.getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * data.seconds);
}

sheet.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  if (event.pointerType === "mouse") sheet.setPointerCapture(event.pointerId); // a finger's drag scrolls
  point(event);
});
sheet.addEventListener("pointermove", (event) => {
  if (sheet.hasPointerCapture(event.pointerId) && event.pointerType === "mouse") point(event);
});
sheet.addEventListener("keydown", (event) => {
  const small = event.shiftKey ? 2 : 0.2;
  const moves = { ArrowLeft: -small, ArrowDown: -small, ArrowRight: small, ArrowUp: small, PageDown: -10, PageUp: 10 };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in moves) seek(now + moves[event.key]);
  else if (event.key === "Home") seek(0);
  else if (event.key === "End") seek(data.seconds);
  else if (event.key === " ") player.paused ? player.play().catch(() => {}) : player.pause();
  else return;
  event.preventDefault();
});
player.addEventListener("play", follow);
player.addEventListener("seeked", follow);
player.addEventListener("pause", follow);
player.addEventListener("error", () => { document.getElementById("trouble").hidden = false; });
if (video) {
  const unseen = () => { video.hidden = true; document.getElementById("unseen").hidden = false; };
  video.addEventListener("error", unseen);
  if (video.error) unseen();
}
document.getElementById("in").addEventListener("click", () => magnify(2));
document.getElementById("out").addEventListener("click", () => magnify(0.5));
document.getElementById("heights").addEventListener("click", (event) => {
  fit(event.currentTarget.getAttribute("aria-pressed") !== "true");
});
document.getElementById("zoom").hidden = most <= 1;
new ResizeObserver(ticks).observe(view);
show();
