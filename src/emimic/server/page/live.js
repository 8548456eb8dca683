// The live view: lines of the last seconds of the microphone's sound.

import { drawEnvelope, drawPanel, wrapSvg } from "./panels.js";
import { makeName, makePanelName } from "./report.js";
import { makeVadNames } from "./steps.js";
import { formatNumber, formatTime } from "./timeline_view.js";
import { findRange } from "./waveform.js";

const SHOWN = 20; // seconds
const BIN = 0.05; // seconds of a waveform's bin
const REDRAW = 0.1; // seconds between two drawings of the rolling lines

/** Rolling lines; `section` holds the elements of index.html. */
export class LiveView {
  constructor(section, { targets, hop, delay, rate }) {
    const ids = ["time", "delay", "dropped", "names", "panels"];
    for (const id of ids) this[id] = section.querySelector(`#live-${id}`);
    Object.assign(this, { hop, rate, steps: [], bins: [], seconds: 0, start: null });
    this.looks = [...targets.map((name, i) => ({ name, look: `c${i % 6}` })), ...makeVadNames(targets).map((name) => ({ name, look: "vad" }))]
      .map((look) => ({ ...look, low: 0, high: 1 }));
    this.names.replaceChildren(makeName("waveform", "scaled to its peak", "", "", null), ...this.looks.map(makePanelName));
    this.values = [...this.names.querySelectorAll(".value")];
    this.delay.textContent = delay.toFixed(1);
    this.dropped.textContent = "0";
    this.draw();
  }

  /** Add a block of samples. */
  addBlock(samples) {
    const size = Math.round(BIN * this.rate);
    for (let start = 0; start < samples.length; start += size) {
      this.bins.push({ time: this.seconds + start / this.rate, ...findRange(samples, start, Math.min(samples.length, start + size)) });
    }
    this.seconds += samples.length / this.rate;
    // The earliest block to arrive is the best estimate of when the sound began.
    const began = performance.now() - 1000 * this.seconds;
    this.start = this.start === null ? began : Math.min(this.start, began);
    this.bins = this.bins.filter(({ time }) => time > this.seconds - SHOWN);
    if (this.seconds - this.drawn > REDRAW) this.draw();
  }

  /** Add steps, of which `dropped` were late so far. */
  addSteps(steps, dropped) {
    this.steps = [...this.steps, ...steps].filter(({ time }) => time > this.seconds - SHOWN - this.hop);
    const last = steps[steps.length - 1];
    const values = [...last.intensities, ...(last.vad ?? [])];
    this.values.forEach((element, i) => { element.textContent = Number.isFinite(values[i]) ? formatNumber(values[i], 2) : "–"; });
    this.dropped.textContent = String(dropped);
    this.draw();
    const delay = (performance.now() - this.start) / 1000 - last.time;
    this.delay.textContent = delay.toFixed(1);
    this.delay.dataset.seconds = delay.toFixed(3);
  }

  draw() {
    this.drawn = this.seconds;
    const start = this.seconds - SHOWN, findX = (i) => (1000 * (this.bins[i].time - start)) / SHOWN;
    this.time.textContent = formatTime(this.seconds, 0);
    const rows = this.looks.map((look, i) => {
      const points = this.#breakAtGaps(this.steps.map((step) => {
        const value = [...step.intensities, ...(step.vad ?? [])][i];
        return { time: step.time, mean: value, low: value, high: value };
      }));
      return drawPanel({ ...look, far: { each: 1, points } }, SHOWN, start);
    });
    this.panels.innerHTML = [drawEnvelope(this.bins, findX).svg, ...rows].map(wrapSvg).join("");
  }

  /** Return points with a gap wherever a step was dropped. */
  #breakAtGaps(points) {
    return points.flatMap((point, i) => {
      const isGap = i > 0 && point.time - points[i - 1].time > 1.5 * this.hop;
      return isGap ? [{ time: point.time, mean: NaN }, point] : [point];
    });
  }
}
