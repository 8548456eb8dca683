// The cursor over timelines follows the player, and the player follows the cursor. Of the HTML report, and of the page
// in the browser.

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const MOVES = { ArrowLeft: -0.2, ArrowDown: -0.2, ArrowRight: 0.2, ArrowUp: 0.2, PageDown: -10, PageUp: 10 };

export function formatTime(t, digits) {
  const rounded = Math.round(t * 10 ** digits) / 10 ** digits, s = rounded % 60, m = Math.floor(rounded / 60);
  const tail = s.toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return m < 60 ? `${m}:${tail}` : `${Math.floor(m / 60)}:${String(m % 60).padStart(2, "0")}:${tail}`;
}

export function formatNumber(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

// Return the value nearest to a time; null in a gap and beyond the ends. The times of a line are sorted.
export function findValue(line, t) {
  let low = 0, high = line.times.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (line.times[middle] <= t) low = middle; else high = middle;
  }
  const i = Math.abs(line.times[low] - t) <= Math.abs(line.times[high] - t) ? low : high;
  return Math.abs(line.times[i] - t) <= line.reach ? line.values[i] : null;
}

export class TimelineView {
  // root: holds the elements of timeline_view.html, and the player. data: {seconds, lines}.
  constructor(root, data) {
    const ids = ["view", "panels", "cursor", "axis", "time", "heights", "zoom", "in", "out", "trouble", "unseen"];
    for (const id of ids) this[id] = root.querySelector(`#${id}`);
    this.data = data;
    this.player = root.querySelector("audio");
    this.video = root.querySelector("video"); // muted; it follows the sound
    [this.drawings, this.names] = ["#panels > svg", ".names > div"].map((rows) => [...root.querySelectorAll(rows)]);
    this.values = [...root.querySelectorAll(".names .value")];
    this.maxZoom = Math.min(32, Math.max(1, data.seconds / 15));
    this.now = 0;
    this.scale = 1;
    this.listen();
    this.zoom.hidden = this.maxZoom <= 1;
    new ResizeObserver(() => this.drawTicks()).observe(this.view);
    this.show();
  }

  listen() {
    const { panels, player, video } = this;
    panels.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      if (event.pointerType === "mouse") panels.setPointerCapture(event.pointerId); // a finger's drag scrolls
      this.seekPointer(event);
    });
    panels.addEventListener("pointermove", (event) => {
      if (panels.hasPointerCapture(event.pointerId) && event.pointerType === "mouse") this.seekPointer(event);
    });
    panels.addEventListener("keydown", (event) => this.press(event));
    for (const event of ["play", "seeked", "pause"]) player.addEventListener(event, () => this.follow());
    player.addEventListener("error", () => { this.trouble.hidden = false; });
    if (video) {
      const hide = () => { video.hidden = true; this.unseen.hidden = false; };
      video.addEventListener("error", hide);
      if (video.error) hide();
    }
    this.in.addEventListener("click", () => this.magnify(2));
    this.out.addEventListener("click", () => this.magnify(0.5));
    this.heights.addEventListener("click", () => this.fitHeights(this.heights.getAttribute("aria-pressed") !== "true"));
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { player } = this, isArrow = event.key.startsWith("Arrow");
    if (event.key in MOVES) this.seek(this.now + MOVES[event.key] * (event.shiftKey && isArrow ? 10 : 1));
    else if (event.key === "Home") this.seek(0);
    else if (event.key === "End") this.seek(this.data.seconds);
    else if (event.key === " ") player.paused ? player.play().catch(() => {}) : player.pause();
    else return;
    event.preventDefault();
  }

  show() {
    const { data, panels, view } = this, x = data.seconds ? this.now / data.seconds : 0, description = [];
    this.cursor.style.left = `${100 * x}%`;
    this.time.textContent = formatTime(this.now, 1);
    data.lines.forEach((line, i) => {
      const value = findValue(line, this.now), text = value === null ? "–" : formatNumber(value, 2);
      if (this.values[i].textContent !== text) this.values[i].textContent = text;
      description.push(`${line.name} ${value === null ? "no value" : text}`);
    });
    panels.setAttribute("aria-valuenow", this.now.toFixed(2));
    panels.setAttribute("aria-valuetext", `${this.now.toFixed(1)} seconds. ${description.join(", ")}`);
    const left = x * panels.clientWidth - view.scrollLeft;
    if (this.scale > 1 && (left < 0 || left > view.clientWidth)) view.scrollLeft += left - view.clientWidth / 4;
  }

  seek(t) {
    this.now = Math.min(this.data.seconds, Math.max(0, t));
    this.player.currentTime = this.now;
    this.show();
  }

  seekPointer(event) {
    const box = this.panels.getBoundingClientRect();
    this.seek(((event.clientX - box.left) / box.width) * this.data.seconds);
  }

  syncVideo() {
    const { player, video } = this;
    if (!video || video.hidden) return;
    if (player.paused !== video.paused) player.paused ? video.pause() : video.play().catch(() => {});
    video.playbackRate = player.playbackRate;
    if (Math.abs(video.currentTime - player.currentTime) > 0.15) video.currentTime = player.currentTime;
  }

  follow() {
    this.syncVideo();
    this.now = Math.min(this.data.seconds, this.player.currentTime);
    this.show();
    if (!this.player.paused && !this.player.ended) requestAnimationFrame(() => this.follow());
  }

  // Draw times under the timelines, at least 80 pixels apart.
  drawTicks() {
    const { axis, panels } = this, { seconds } = this.data;
    const step = STEPS.find((s) => (s / seconds) * panels.clientWidth >= 80) || 7200;
    axis.replaceChildren();
    for (let i = 0; i * step < seconds; i++) {
      const mark = document.createElement("span");
      mark.textContent = formatTime(i * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
      mark.style.left = `${(100 * i * step) / seconds}%`;
      axis.append(mark);
    }
  }

  magnify(factor) {
    const { panels, view } = this, middle = this.now / this.data.seconds;
    this.scale = Math.min(this.maxZoom, Math.max(1, this.scale * factor));
    panels.classList.toggle("magnified", this.scale > 2);
    panels.style.width = `${100 * this.scale}%`;
    view.scrollLeft = middle * panels.clientWidth - view.clientWidth / 2;
    this.drawTicks();
    this.show();
  }

  // Scale each line to its own values, or to the range of its group.
  fitHeights(on) {
    this.heights.setAttribute("aria-pressed", on);
    this.data.lines.forEach((line, i) => {
      const isFitted = on && line.lowest !== null;
      const middle = (line.lowest + line.highest) / 2, half = Math.max(0.01, (line.highest - line.lowest) / 2);
      const [low, high] = isFitted ? [middle - half, middle + half] : [line.low, line.high];
      const scale = 96 / (line.high - line.low), y = (value) => 98 - scale * (value - line.low);
      const [top, bottom] = isFitted ? [y(high) - 2, y(low) + 2] : [0, 100];
      this.drawings[i + 1].setAttribute("viewBox", `0 ${top} 1000 ${bottom - top}`);
      const text = (value) => String(Number(value.toFixed(isFitted ? 3 : 1))).replace("-", "−");
      this.names[i + 1].querySelector(".top").textContent = text(high);
      this.names[i + 1].querySelector(".bottom").textContent = text(low);
    });
  }
}
