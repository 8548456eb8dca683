// Two ways from a recording's windows to predictions, as in emimic/inference/passes.py.

import { roundEven } from "./rounding.js";
import { SAMPLE_RATE, concatenate, prepareClip } from "./waveform.js";

const MARGIN = SAMPLE_RATE / 2; // samples before a group's first window that are given to the head

// Blocks over which the encoder runs, in seconds.
export const FILE = { advance: 5, before: 0.5, after: 0.5 };
export const LIVE = { advance: 1, before: 1, after: 0.5 }; // of a stream, which should not be late

/** Each window is cut out, prepared and predicted as a clip of its own. */
export class ExactPass {
  delay = 0;

  constructor(engine) {
    this.engine = engine;
  }

  /** Return the steps to predict now, in groups: here one step each. */
  group(steps) {
    return steps.map((step) => [step]);
  }

  /** Return the values of windows, null for those without a voice. */
  async predict(windows, cut) {
    const values = [];
    for (const { start, end, isVoiced } of windows) {
      if (!isVoiced) {
        values.push(null);
        continue;
      }
      const [{ intensities, vad }] = await this.engine.predict([prepareClip(cut(start, end), this.engine.spec)]);
      values.push({ intensities, vad: vad && averageFrames(vad) });
    }
    return values;
  }

  /** Return the first sample that this step or a later one needs. */
  getNeeded(grid, step) {
    return grid.getWindow(step)[0];
  }
}

/** The encoder runs once over blocks, the head on windows of their frames. */
export class OnePass {
  constructor(engine, grid, blocks) {
    const { hop, maxSeconds } = engine.spec;
    const seconds = blocks.before + blocks.advance + blocks.after;
    const scale = (Math.min(1, maxSeconds / seconds) * SAMPLE_RATE) / hop;
    this.engine = engine;
    this.hop = hop;
    this.frames = Math.max(1, Math.floor(blocks.advance * scale)); // of a block's own
    this.advance = this.frames * hop;
    this.before = Math.floor(blocks.before * scale) * hop;
    this.after = Math.floor(blocks.after * scale) * hop;
    this.reach = Math.max(1, roundEven(((grid.window / 2) * SAMPLE_RATE) / hop));
    this.delay = this.advance + this.after;
    this.encoded = new Map(); // by block, its own frames and those after
  }

  /** Return the steps whose windows end in the same block, in groups. */
  group(steps, grid, total, last) {
    const groups = [];
    for (let first = 0; first < steps.length; ) {
      const edge = Math.ceil(grid.getWindow(steps[first])[1] / this.advance) * this.advance;
      let count = 1;
      while (grid.getWindow(steps[first] + count)[1] <= edge) count++;
      if (last) count = Math.min(count, steps.length - first);
      else if (first + count > steps.length || edge + this.after > total) break;
      groups.push(steps.slice(first, first + count));
      first += count;
    }
    return groups;
  }

  /** Return the values of a group's windows, null for those without a voice. */
  async predict(windows, cut, total) {
    const voiced = windows.filter(({ isVoiced }) => isVoiced);
    if (!voiced.length) return windows.map(() => null);
    const first = this.#findBlock(voiced[0].start), end = Math.ceil(voiced[voiced.length - 1].end / this.advance);
    for (const block of this.encoded.keys()) if (block < first) this.encoded.delete(block);
    const parts = [];
    for (let block = first; block < end; block++) {
      if (!this.encoded.has(block)) this.encoded.set(block, await this.#encode(block, cut, total));
      parts.push(this.encoded.get(block));
    }
    const values = await this.engine.predictWindows(this.#join(parts), this.#findFrames(voiced, first, parts));
    return windows.map(({ isVoiced }) => (isVoiced ? values.shift() : null));
  }

  getNeeded(grid, step) {
    return this.#findBlock(grid.getWindow(step)[0]) * this.advance - this.before;
  }

  #findBlock(start) {
    return Math.floor(Math.max(0, start - MARGIN) / this.advance);
  }

  /** Return the hidden states of a block from its own first frame on. */
  async #encode(block, cut, total) {
    const start = Math.max(0, block * this.advance - this.before);
    const wave = cut(start, Math.min(total, (block + 1) * this.advance + this.after));
    const { data, frames, features } = await this.engine.encode(prepareClip(wave, this.engine.spec), this.reach);
    const context = block * this.frames - Math.floor(start / this.hop);
    return { data: data.slice(context * features), frames: frames - context, features };
  }

  #join(parts) {
    const { features } = parts[0], size = this.frames * features;
    const own = parts.map(({ data }, i) => (i + 1 < parts.length ? data.subarray(0, size) : data));
    const data = concatenate(own);
    return { data, frames: data.length / features, features };
  }

  /** Return the frames [start, end) of windows, counted from the first block's first frame. */
  #findFrames(windows, first, parts) {
    const count = this.#join(parts).frames, offset = first * this.frames;
    return windows.map(({ start, end }) => {
      const [from, to] = [start, end].map((edge) => -Math.floor((this.engine.spec.first - edge) / this.hop) - offset);
      const stop = Math.min(Math.max(1, to), count);
      return [Math.min(from, stop - 1), stop];
    });
  }
}

/** Return the mean (3) of V/A/D by frame. */
export function averageFrames(vad) {
  const sums = [0, 0, 0];
  vad.forEach((value, i) => { sums[i % 3] += value; });
  return Float32Array.from(sums, (sum) => sum / (vad.length / 3));
}
