// Voice activity by the rules of emimic/inference/voice_activity.py: speech, or a level above the recording's noise.

import { CHUNK, GROUP, SPEECH } from "./silero.js";
import { SAMPLE_RATE, concatenate } from "./waveform.js";

const ABOVE_NOISE = 10; // dB above the noise floor that count as voice
const QUIETEST = -65; // lowest noise floor in dB
const LOUDEST_NOISE = -40; // highest noise floor in dB of a room between parts of digital silence
const SHORTEST = 3; // chunks; a shorter sound is a click
const MARGIN = 6; // chunks added on both sides
const PAST = 250; // chunks back in which the noise floor is searched
const FLOOR_AHEAD = 20; // chunks forward
const SMOOTH = 1; // chunks on either side whose power is averaged
const BEHIND = SMOOTH + PAST + (SHORTEST - 1) + MARGIN;
const DIGITAL = -99; // dB; zeros have -100
const BAND = [6, 161]; // bins of a chunk: 190 to 5,000 Hz

export const AHEAD = SMOOTH + FLOOR_AHEAD + (SHORTEST - 1) + MARGIN; // chunks that must follow a decided one

const TAPER = Float64Array.from({ length: CHUNK }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (CHUNK - 1)));
const TAPER_POWER = TAPER.reduce((sum, value) => sum + value * value, 0);

/** A voice detector for a recording at 16 kHz that arrives in pieces of any size. */
export class VoiceDetector {
  constructor(speechDetector) {
    this.detector = speechDetector;
    this.rest = new Float32Array(0);
    this.speech = [];
    this.levels = [];
    this.first = 0; // the chunk that `speech` and `levels` begin with
    this.voiced = []; // decided chunks
    this.samples = 0;
    this.begun = null; // the chunk with the first sound, and the zeros before it that lie in no chunk
    this.decided = 0; // samples
  }

  /** Add samples. */
  async push(samples) {
    this.samples += samples.length;
    let rest = concatenate([this.rest, samples]);
    if (!this.begun) {
      const sound = rest.findIndex((sample) => sample !== 0);
      if (sound >= 0) {
        const odd = sound % CHUNK;
        this.begun = { chunk: this.first + this.levels.length + (sound - odd) / CHUNK, odd };
        rest = rest.subarray(odd);
      }
    }
    let start = 0;
    for (; start + GROUP <= rest.length; start += GROUP) await this.#addEvidence(rest.subarray(start, start + GROUP));
    this.rest = rest.slice(start);
    this.#decide(this.first + this.levels.length - AHEAD);
  }

  /** End the recording and decide the rest. */
  async flush() {
    if (this.rest.length) {
      const group = new Float32Array(GROUP), chunks = Math.ceil(this.rest.length / CHUNK);
      group.set(this.rest);
      await this.#addEvidence(group);
      const count = this.levels.length - GROUP / CHUNK + chunks;
      this.speech.length = this.levels.length = count;
      this.rest = new Float32Array(0);
    }
    this.#decide(this.first + this.levels.length);
    this.decided = this.samples;
  }

  /** Return true if the samples from start to end, which must be decided, contain a voice. */
  isVoiced(start, end) {
    return this.voiced.slice(this.#getChunk(start), this.#getChunk(end - 1) + 1).includes(true);
  }

  /** Return the decided segments with a voice, in seconds. */
  getVoiceSegments() {
    const segments = [], { length } = this.voiced;
    const edge = (chunk) => Math.min(this.#getEdge(chunk), this.decided) / SAMPLE_RATE;
    for (let chunk = 0, start = 0; chunk <= length; chunk++) {
      const is = chunk < length && this.voiced[chunk], was = chunk > 0 && this.voiced[chunk - 1];
      if (is && !was) start = chunk;
      if (was && !is) segments.push({ start: edge(start), end: edge(chunk) });
    }
    return segments;
  }

  #getEdge(chunk) {
    const { chunk: first, odd } = this.begun ?? { chunk: 0, odd: 0 };
    return chunk * CHUNK + (chunk >= first ? odd : 0);
  }

  #getChunk(sample) {
    const { chunk: first, odd } = this.begun ?? { chunk: 0, odd: 0 };
    return Math.max(Math.min(Math.floor(sample / CHUNK), first), Math.floor((sample - odd) / CHUNK));
  }

  async #addEvidence(group) {
    this.speech.push(...(await this.detector.detect(group)));
    for (let start = 0; start < GROUP; start += CHUNK) {
      this.levels.push(computeLevel(group.subarray(start, start + CHUNK)));
    }
  }

  #decide(until) {
    const done = this.voiced.length;
    if (until <= done) return;
    const voiced = decide(this.speech, this.levels);
    for (const chunk of voiced.slice(done - this.first, until - this.first)) this.voiced.push(chunk);
    this.decided = this.#getEdge(until);
    const forget = Math.max(0, until - BEHIND - this.first);
    this.speech = this.speech.slice(forget);
    this.levels = this.levels.slice(forget);
    this.first += forget;
  }
}

/** Return for each chunk if it has a voice, by its probability of speech and its level in dB. */
export function decide(speech, levels) {
  const power = levels.map((level) => 10 ** (level / 10)), count = levels.length;
  const smooth = levels.map((_, i) => {
    const around = power.slice(Math.max(0, i - SMOOTH), i + SMOOTH + 1);
    return 10 * Math.log10(around.reduce((sum, value) => sum + value, 0) / around.length);
  });
  // Digital silence (of a gate, or of a gap in the recording) is not the noise of the room.
  const isDigital = levels.map((_, i) => levels.slice(Math.max(0, i - SMOOTH), i + SMOOTH + 1).some((v) => v <= DIGITAL));
  const voice = smooth.map((level, i) => {
    let room = Infinity, lowest = Infinity;
    for (let k = Math.max(0, i - PAST); k <= Math.min(count - 1, i + FLOOR_AHEAD); k++) {
      lowest = Math.min(lowest, smooth[k]);
      if (!isDigital[k]) room = Math.min(room, smooth[k]);
    }
    const floor = Math.max(room <= LOUDEST_NOISE ? room : lowest, QUIETEST);
    return speech[i] >= SPEECH || level >= floor + ABOVE_NOISE;
  });
  const wide = new Array(count).fill(false);
  for (let i = 0; i < count; i++) {
    // A voice at the recording's end counts as long enough.
    if (!voice.slice(i, i + SHORTEST).every(Boolean)) continue;
    wide.fill(true, Math.max(0, i - MARGIN), i + SHORTEST + MARGIN);
  }
  return wide;
}

/** Return the level in dB of a chunk between 190 and 5,000 Hz, without most hum and rumble. */
function computeLevel(chunk) {
  const real = new Float64Array(CHUNK), imaginary = new Float64Array(CHUNK);
  for (let i = 0; i < CHUNK; i++) real[i] = chunk[i] * TAPER[i];
  transform(real, imaginary);
  let power = 0;
  for (let bin = BAND[0]; bin < BAND[1]; bin++) power += real[bin] ** 2 + imaginary[bin] ** 2;
  return 10 * Math.log10((power * 2) / (CHUNK * TAPER_POWER) + 1e-10);
}

/** Replace a signal, whose length is a power of two, by its Fourier transform. */
function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let span = 2; span <= size; span *= 2) {
    for (let k = 0; k < span / 2; k++) {
      const angle = (-2 * Math.PI * k) / span, cos = Math.cos(angle), sin = Math.sin(angle);
      for (let a = k; a < size; a += span) {
        const b = a + span / 2;
        const x = real[b] * cos - imaginary[b] * sin, y = real[b] * sin + imaginary[b] * cos;
        [real[b], imaginary[b]] = [real[a] - x, imaginary[a] - y];
        real[a] += x;
        imaginary[a] += y;
      }
    }
  }
}
