// Speech probabilities for each 32 ms of a recording by silero-vad, as in emimic/media/silero_vad.py.

export const CHUNK = 512; // samples per probability
export const GROUP = 4 * CHUNK; // samples processed in one call
export const SPEECH = 0.5; // minimum probability of speech

const CONTEXT = 64; // samples before a chunk that the model takes in front of it

/** A detector that processes a recording at 16 kHz from its start, one group at a time, and keeps its state. */
export class SpeechDetector {
  constructor(ort, session) {
    this.ort = ort;
    this.session = session;
    this.tail = new Float32Array(CONTEXT);
    this.state = [0, 1].map(() => new ort.Tensor("float32", new Float32Array(128), [1, 1, 128]));
  }

  /** Return the probability of speech in each chunk of the next GROUP samples. */
  async detect(group) {
    const size = CONTEXT + CHUNK, samples = new Float32Array(CONTEXT + GROUP);
    samples.set(this.tail);
    samples.set(group, CONTEXT);
    const frames = new Float32Array((GROUP / CHUNK) * size);
    for (let i = 0; i < GROUP / CHUNK; i++) frames.set(samples.subarray(i * CHUNK, i * CHUNK + size), i * size);
    const input = new this.ort.Tensor("float32", frames, [GROUP / CHUNK, size]);
    const { speech_probs, hn, cn } = await this.session.run({ input, h: this.state[0], c: this.state[1] });
    this.state = [hn, cn];
    this.tail = samples.slice(-CONTEXT);
    return speech_probs.data;
  }
}
