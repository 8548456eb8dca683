// Resampling to 16 kHz by a windowed sinc with the pass band and the attenuation of soxr's HQ quality.

import { SAMPLE_RATE, concatenate } from "./waveform.js";

const PASS = 0.9136; // end of the pass band, as a fraction of the lower of both Nyquist frequencies
const ATTENUATION = 120; // dB from that frequency on
const BETA = 0.1102 * (ATTENUATION - 8.7); // of the Kaiser window, by Kaiser's formula

/** A stream of mono chunks at `rate` Hz as samples at 16 kHz; the sizes of the chunks don't change the samples. */
export class Resampler {
  constructor(rate) {
    const divisor = findDivisor(SAMPLE_RATE, rate);
    this.up = SAMPLE_RATE / divisor;
    this.down = rate / divisor;
    const nyquist = Math.min(rate, SAMPLE_RATE) / 2 / rate; // in cycles per input sample
    const transition = 2 * Math.PI * (1 - PASS) * nyquist;
    this.half = Math.ceil((ATTENUATION - 7.95) / (2.285 * transition) / 2);
    this.cutoff = ((1 + PASS) / 2) * nyquist;
    this.rows = new Map(); // weights by phase
    this.received = 0;
    this.made = 0;
    this.buffer = new Float32Array(this.half); // zeros before the first sample
    this.first = -this.half; // the input sample that `buffer` begins with
  }

  /** Add samples, and return those at 16 kHz that are complete. */
  push(samples) {
    this.received += samples.length;
    if (this.up === this.down) return samples;
    this.buffer = concatenate([this.buffer, samples]);
    return this.#make(Math.floor(((this.received - this.half) * this.up) / this.down));
  }

  /** Return the last samples, to the end of the input. */
  flush() {
    if (this.up === this.down) return new Float32Array(0);
    this.buffer = concatenate([this.buffer, new Float32Array(this.half + 1)]);
    return this.#make(Math.round((this.received * this.up) / this.down));
  }

  #make(until) {
    const output = new Float32Array(Math.max(0, until - this.made));
    for (let i = 0; i < output.length; i++) {
      const position = (this.made + i) * this.down;
      const phase = position % this.up, center = (position - phase) / this.up;
      const row = this.#getRow(phase), start = center - this.half + 1 - this.first;
      let sum = 0;
      for (let k = 0; k < row.length; k++) sum += row[k] * this.buffer[start + k];
      output[i] = sum;
    }
    this.made += output.length;
    const needed = Math.floor((this.made * this.down) / this.up) - this.half - this.first;
    if (needed > 0) {
      this.buffer = this.buffer.slice(needed);
      this.first += needed;
    }
    return output;
  }

  /** Return the weights of the 2 * half input samples around an output sample. */
  #getRow(phase) {
    if (!this.rows.has(phase)) {
      const row = new Float64Array(2 * this.half), scale = computeBessel(BETA);
      for (let k = 0; k < row.length; k++) {
        const t = k - this.half + 1 - phase / this.up, u = t / this.half;
        const x = 2 * Math.PI * this.cutoff * t;
        const sinc = 2 * this.cutoff * (x === 0 ? 1 : Math.sin(x) / x);
        row[k] = Math.abs(u) > 1 ? 0 : (sinc * computeBessel(BETA * Math.sqrt(1 - u * u))) / scale;
      }
      this.rows.set(phase, row);
    }
    return this.rows.get(phase);
  }
}

/** Return all samples of a recording at 16 kHz. */
export function resample(samples, rate) {
  const resampler = new Resampler(rate);
  return concatenate([resampler.push(samples), resampler.flush()]);
}

function findDivisor(a, b) {
  return b ? findDivisor(b, a % b) : a;
}

/** Return the modified Bessel function of the first kind and order 0. */
function computeBessel(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / 2 / k) ** 2;
    sum += term;
  }
  return sum;
}
