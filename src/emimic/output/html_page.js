"use strict";
// The cursor over the timelines follows the player, and the player follows the cursor.
const data = JSON.parse(document.getElementById("data").textContent);
const [view, panels, cursor, axis, time] = ["view", "panels", "cursor", "axis", "time"].map((id) => document.getElementById(id));
const player = document.querySelector("audio");
const video = document.querySelector("video"); // muted; it follows the sound
const [drawings, names] = ["#panels > svg", ".names > div"].map((rows) => [...document.querySelectorAll(rows)]);
const values = [...document.querySelectorAll(".names .value")];
const maxZoom = Math.min(32, Math.max(1, data.seconds / 15));
let now = 0, zoom = 1;

function formatTime(t, digits) {
  const rounded = Math.round(t * 10 ** digits) / 10 ** digits, s = rounded % 60, m = Math.floor(rounded / 60);
  const tail = s.toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return m < 60 ? `${m}:${tail}` : `${Math.floor(m / 60)}:${String(m % 60).padStart(2, "0")}:${tail}`;
}

// Return the value nearest to a time; null in a gap and beyond the ends. The times of a line are sorted.
function findValue(line, t) {
  let low = 0, high = line.times.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (line.times[middle] <= t) low = middle; else high = middle;
  }
  const i = Math.abs(line.times[low] - t) <= Math.abs(line.times[high] - t) ? low : high;
  return Math.abs(line.times[i] - t) <= line.reach ? line.values[i] : null;
}

function show() {
  const x = data.seconds ? now / data.seconds : 0, description = [];
  cursor.style.left = `${100 * x}%`;
  time.textContent = formatTime(now, 1);
  data.lines.forEach((line, i) => {
    const value = findValue(line, now);
    const text = value === null ? "–" : value.toFixed(2).replace("-", "−");
    if (values[i].textContent !== text) values[i].textContent = text;
    description.push(`${line.name} ${value === null ? "no value" : text}`);
  });
  panels.setAttribute("aria-valuenow", now.toFixed(2));
  panels.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds. ${description.join(", ")}`);
  const left = x * panels.clientWidth - view.scrollLeft;
  if (zoom > 1 && (left < 0 || left > view.clientWidth)) view.scrollLeft += left - view.clientWidth / 4;
}

function seek(t) {
  now = Math.min(data.seconds, Math.max(0, t));
  player.currentTime = now;
  show();
}

function syncVideo() {
  if (!video || video.hidden) return;
  if (player.paused !== video.paused) player.paused ? video.pause() : video.play().catch(() => {});
  video.playbackRate = player.playbackRate;
  if (Math.abs(video.currentTime - player.currentTime) > 0.15) video.currentTime = player.currentTime;
}

function follow() {
  syncVideo();
  now = Math.min(data.seconds, player.currentTime);
  show();
  if (!player.paused && !player.ended) requestAnimationFrame(follow);
}

// Draw times under the timelines, at least 80 pixels apart.
function drawTicks() {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const step = steps.find((s) => (s / data.seconds) * panels.clientWidth >= 80) || 7200;
  axis.replaceChildren();
  for (let i = 0; i * step < data.seconds; i++) {
    const mark = document.createElement("span");
    mark.textContent = formatTime(i * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
    mark.style.left = `${(100 * i * step) / data.seconds}%`;
    axis.append(mark);
  }
}

function magnify(factor) {
  const middle = now / data.seconds;
  zoom = Math.min(maxZoom, Math.max(1, zoom * factor));
  panels.classList.toggle("magnified", zoom > 2);
  panels.style.width = `${100 * zoom}%`;
  view.scrollLeft = middle * panels.clientWidth - view.clientWidth / 2;
  drawTicks();
  show();
}

// Scale each line to its own values, or to the range of its group.
function fitHeights(on) {
  document.getElementById("heights").setAttribute("aria-pressed", on);
  data.lines.forEach((line, i) => {
    const isFitted = on && line.lowest !== null;
    const middle = (line.lowest + line.highest) / 2, half = Math.max(0.01, (line.highest - line.lowest) / 2);
    const [low, high] = isFitted ? [middle - half, middle + half] : [line.low, line.high];
    const scale = 96 / (line.high - line.low), y = (value) => 98 - scale * (value - line.low);
    const [top, bottom] = isFitted ? [y(high) - 2, y(low) + 2] : [0, 100];
    drawings[i + 1].setAttribute("viewBox", `0 ${top} 1000 ${bottom - top}`);
    const text = (value) => String(Number(value.toFixed(isFitted ? 3 : 1))).replace("-", "−");
    names[i + 1].querySelector(".top").textContent = text(high);
    names[i + 1].querySelector(".bottom").textContent = text(low);
  });
}

function seekPointer(event) {
  const box = panels.getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * data.seconds);
}

panels.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  if (event.pointerType === "mouse") panels.setPointerCapture(event.pointerId); // a finger's drag scrolls
  seekPointer(event);
});
panels.addEventListener("pointermove", (event) => {
  if (panels.hasPointerCapture(event.pointerId) && event.pointerType === "mouse") seekPointer(event);
});
panels.addEventListener("keydown", (event) => {
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
  const hideVideo = () => { video.hidden = true; document.getElementById("unseen").hidden = false; };
  video.addEventListener("error", hideVideo);
  if (video.error) hideVideo();
}
document.getElementById("in").addEventListener("click", () => magnify(2));
document.getElementById("out").addEventListener("click", () => magnify(0.5));
document.getElementById("heights").addEventListener("click", (event) => {
  fitHeights(event.currentTarget.getAttribute("aria-pressed") !== "true");
});
document.getElementById("zoom").hidden = maxZoom <= 1;
new ResizeObserver(drawTicks).observe(view);
show();
