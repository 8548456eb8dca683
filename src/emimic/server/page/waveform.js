// Waveforms at 16 kHz and the clips that encoders take, as in emimic/media/waveform.py.

export const SAMPLE_RATE = 16000;

const SILENCE = 10 ** (-65 / 20); // largest deviation of a silent recording's samples from their center

/** Return true if samples stay around their center: a constant, as of a muted sound card, is silence. */
export function isSilent(samples) {
  const { low, high } = findRange(samples);
  return (high - low) / 2 < SILENCE;
}

/** Return the lowest and the highest sample from `start` to `end`. */
export function findRange(samples, start = 0, end = samples.length) {
  let low = Infinity, high = -Infinity;
  for (let i = start; i < end; i++) {
    if (samples[i] < low) low = samples[i];
    if (samples[i] > high) high = samples[i];
  }
  return { low, high };
}

/** Return a clip of at least `minSamples`: cut, then normalized, then padded with zeros, as `ClipFormat.prepare`. */
export function prepareClip(samples, { maxSeconds, doNormalize, minSamples }) {
  const wave = samples.subarray(0, Math.round(maxSeconds * SAMPLE_RATE));
  const clip = new Float32Array(Math.max(minSamples, wave.length));
  clip.set(doNormalize ? normalize(wave) : wave);
  return clip;
}

/** Return samples with zero mean and unit variance, computed in double precision. */
function normalize(samples) {
  let mean = 0, power = 0;
  for (const sample of samples) mean += sample;
  mean /= samples.length;
  for (const sample of samples) power += (sample - mean) ** 2;
  const std = Math.sqrt(power / samples.length + 1e-7);
  return samples.map((sample) => (sample - mean) / std);
}

/** Join chunks of samples. */
export function concatenate(chunks) {
  const joined = new Float32Array(chunks.reduce((total, chunk) => total + chunk.length, 0));
  let start = 0;
  for (const chunk of chunks) {
    joined.set(chunk, start);
    start += chunk.length;
  }
  return joined;
}
