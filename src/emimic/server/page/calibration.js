// Calibrated intensities, prediction intervals and the novelty score, as in emimic/calibration.py.

const SLOPE = 0.002; // weight of a rising function, which keeps ranks where a map is flat
const FLOOR = 1e-4; // added to a mean square before the logarithm

/** The calibration of a model's raw predictions; without a description it only passes them on. */
export class Calibration {
  /**
   * @param description content of calibration.json, or null
   * @param novelty {shift, scale, basis, means, factors} as {shape, data}, or null
   */
  constructor(targets, description, novelty) {
    this.maps = description && targets.map((name) => description.maps[name]);
    this.novelty = novelty;
    this.intervals = description?.intervals ?? null;
  }

  /** Return calibrated intensities for raw ones of all targets. */
  calibrate(raw) {
    return this.maps ? Float32Array.from(raw, (value, i) => applyMap(this.maps[i], value)) : Float32Array.from(raw);
  }

  /** Return V/A/D in [0, 1]; those of a model without calibration stay as they are. */
  clip(vad) {
    return this.maps ? vad.map((value) => Math.min(1, Math.max(0, value))) : vad;
  }

  /** Return the distance of a clip's pooled frames to the training data; null without such a score. */
  measureNovelty(pooled) {
    return this.novelty && measureDistance(this.novelty, pooled);
  }
}

/** Return the interval [low, high] of a value by name; nulls for NaN and for a name without one. */
export function computeInterval(intervals, name, value) {
  const width = intervals.widths[name];
  if (!width || !Number.isFinite(value)) return [null, null];
  const half = interpolate(width.x, width.y, value);
  return [value - half, value + half].map((edge) => Math.min(1, Math.max(0, edge)));
}

function applyMap(map, raw) {
  const offset = 2 * raw - 1, rising = 0.5 + (0.5 * offset) / (1 + Math.abs(offset));
  return (1 - SLOPE) * interpolate(map.x, map.y, raw) + SLOPE * rising;
}

/** Return the value at `at` of a function that is linear between knots and constant beyond them. */
function interpolate(x, y, at) {
  const i = x.findIndex((knot) => knot > at);
  if (i < 0) return y[y.length - 1];
  if (i === 0) return y[0];
  return y[i - 1] + ((y[i] - y[i - 1]) / (x[i] - x[i - 1])) * (at - x[i - 1]);
}

function measureDistance({ shift, scale, basis, means, factors }, pooled) {
  const [features, components] = basis.shape, size = components + 1;
  const normed = Float64Array.from(pooled, (value, i) => (value - shift.data[i]) / scale.data[i]);
  const coordinates = new Float64Array(size);
  for (let i = 0; i < features; i++) {
    for (let k = 0; k < components; k++) coordinates[k] += normed[i] * basis.data[i * components + k];
  }
  let residual = 0;
  for (let i = 0; i < features; i++) {
    let value = normed[i];
    for (let k = 0; k < components; k++) value -= coordinates[k] * basis.data[i * components + k];
    residual += value * value;
  }
  coordinates[components] = Math.log(residual / features + FLOOR);
  let nearest = Infinity;
  for (let group = 0; group < means.shape[0]; group++) {
    let distance = 0;
    for (let i = 0; i < size; i++) {
      let value = 0;
      for (let k = 0; k < size; k++) {
        value += factors.data[(group * size + i) * size + k] * (coordinates[k] - means.data[group * size + k]);
      }
      distance += value * value;
    }
    nearest = Math.min(nearest, Math.sqrt(distance));
  }
  return nearest;
}
