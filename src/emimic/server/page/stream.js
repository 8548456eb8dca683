// Predictions over time while a recording arrives, as in emimic/inference/stream.py: samples in, steps out.

import { Grid, WINDOW } from "./grid.js";
import { ExactPass, OnePass } from "./passes.js";
import { AHEAD } from "./voice_activity.js";
import { SAMPLE_RATE, concatenate } from "./waveform.js";

/** A recording at 16 kHz that arrives in chunks. */
export class Stream {
  /**
   * @param blocks of the encoder, for an engine that runs once over a recording
   * @param detector a VoiceDetector
   */
  constructor(engine, detector, hop, blocks) {
    this.engine = engine;
    this.detector = detector;
    this.grid = new Grid(WINDOW, hop);
    this.pass = engine.onePass ? new OnePass(engine, this.grid, blocks) : new ExactPass(engine);
    this.recent = new Float32Array(0); // the end of the recording, as far back as a window may reach
    this.first = 0; // the sample that `recent` begins with
    this.next = 0;
  }

  get total() {
    return this.first + this.recent.length;
  }

  get method() {
    return this.engine.onePass ? "one pass" : "exact";
  }

  /** Add samples. */
  async push(samples) {
    this.recent = concatenate([this.recent, samples]);
    await this.detector.push(samples);
  }

  /** Return the groups of steps that can be predicted now; `last`: the recording has ended. */
  async listReady(last = false) {
    if (last) await this.detector.flush();
    const { grid, total } = this, steps = [];
    for (let step = this.next; last ? step < grid.countSteps(total) : this.#isReady(step); step++) steps.push(step);
    return this.pass.group(steps, grid, total, last);
  }

  /** Return a group's steps with their values, and forget the samples that later steps don't need. */
  async predict(group, last = false) {
    const { grid, total } = this, end = last ? grid.countSteps(total) : Infinity;
    const windows = group.map((step) => {
      const [start, stop] = grid.getWindow(step);
      const until = last && step + 1 === end ? total : grid.getEdge(step + 1);
      const isVoiced = this.detector.isVoiced(grid.getEdge(step), until);
      return { step, start: Math.max(0, start), end: Math.min(total, stop), isVoiced };
    });
    const cut = (start, stop) => this.recent.subarray(start - this.first, stop - this.first);
    const values = await this.pass.predict(windows, cut, total);
    this.skip(group);
    return windows.map((window, i) => this.#makeStep(window, values[i], total));
  }

  /** Go on after a group's steps. */
  skip(group) {
    this.next = group[group.length - 1] + 1;
    const forget = Math.min(Math.max(0, this.pass.getNeeded(this.grid, this.next) - this.first), this.recent.length);
    this.recent = this.recent.slice(forget);
    this.first += forget;
  }

  /** Return true if later samples can't change a step. */
  #isReady(step) {
    const { grid, total, detector } = this;
    // Half a hop later a recording may end with this step, which then represents the remainder too.
    return Math.max(grid.getWindow(step)[1], grid.getEdge(step + 2)) <= total && grid.getEdge(step + 1) <= detector.decided;
  }

  #makeStep({ step, start, end }, values, total) {
    const { targets, vad } = this.engine.spec, { grid } = this;
    const middle = (start + end) / 2 / SAMPLE_RATE;
    return {
      time: grid.getCenter(step) <= total ? (step + 0.5) * grid.hop : middle,
      start: start / SAMPLE_RATE,
      end: end / SAMPLE_RATE,
      isVoiced: values !== null,
      intensities: values ? values.intensities : new Float32Array(targets.length).fill(NaN),
      vad: vad ? (values ? values.vad : new Float32Array(3).fill(NaN)) : null,
    };
  }
}

/** Return the seconds after its time at which a step comes out at the latest, without computing time. */
export function computeDelay(stream) {
  const { hop, window } = stream.grid, decided = hop / 2 + (AHEAD * 512 + 2048) / SAMPLE_RATE;
  return Math.max(window / 2, 1.5 * hop, decided) + stream.pass.delay / SAMPLE_RATE;
}
