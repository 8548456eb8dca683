// Positions of a timeline's windows in samples, as in emimic/inference/grid.py.

import { roundEven } from "./rounding.js";
import { SAMPLE_RATE } from "./waveform.js";

export const WINDOW = 2.5; // seconds

export class Grid {
  constructor(window, hop) {
    this.window = window;
    this.hop = hop;
  }

  /** Return the center of a step's window. */
  getCenter(step) {
    return roundEven((step + 0.5) * this.hop * SAMPLE_RATE);
  }

  /** Return the start of the interval that a step represents; it ends where the next one starts. */
  getEdge(step) {
    return roundEven(step * this.hop * SAMPLE_RATE);
  }

  /** Return a window's start and end, which may lie outside the recording. */
  getWindow(step) {
    const half = roundEven((this.window * SAMPLE_RATE) / 2), center = this.getCenter(step);
    return [center - half, center + half];
  }

  /** Return the number of steps with a center within `total` samples, at least one. */
  countSteps(total) {
    let steps = Math.floor(total / (this.hop * SAMPLE_RATE)) + 2;
    while (steps > 1 && this.getCenter(steps - 1) > total) steps--;
    return steps;
  }
}
