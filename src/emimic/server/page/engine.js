// An exported model on ONNX Runtime: one graph from samples to predictions, or an encoder and a head.

import { Calibration } from "./calibration.js";
import { SAMPLE_RATE } from "./waveform.js";

/** Return the spec of engine.json, with the names used here. */
function readSpec({ spec }) {
  return {
    targets: spec.targets,
    maxSeconds: spec.max_seconds,
    doNormalize: spec.do_normalize,
    minSamples: spec.min_samples,
    hop: spec.hop,
    first: spec.first,
    vad: spec.vad,
  };
}

/**
 * Open an exported model.
 *
 * @param description content of engine.json
 * @param load returns the bytes of a graph's file as a promise
 * @param openSession opens a graph from its bytes
 * @returns an engine with `spec`, `calibration`, `onePass` and `predict(clips)`; one with `onePass` also has
 *   `encode(clip, reach)` and `predictWindows(hidden, windows)`
 */
export async function openEngine(ort, description, calibration, novelty, load, openSession) {
  const spec = readSpec(description), calibrated = new Calibration(spec.targets, calibration, novelty);
  if (!description.graphs) {
    return new OneGraphEngine(ort, spec, calibrated, await openSession(await load("model.onnx")));
  }
  const { encoder, head } = description.graphs;
  const graphs = [await openSession(await load(encoder)), await openSession(await load(head))];
  return new TwoGraphEngine(ort, spec, calibrated, ...graphs);
}

class Engine {
  constructor(ort, spec, calibration) {
    Object.assign(this, { ort, spec, calibration });
  }

  /**
   * Return one prediction per clip: `intensities` by target, `times` and `vad` by frame (null if not learned), and
   * `novelty` (null without such a score). Clips are prepared by `prepareClip`.
   */
  async predict(clips) {
    const predictions = [];
    for (const clip of clips) predictions.push(this.#finish(await this.run(clip)));
    return predictions;
  }

  #finish({ intensities, vad, frames, pooled }) {
    const { hop, first, targets } = this.spec, count = Number(frames.data[0]);
    const values = intensities.data.subarray(0, targets.length);
    const ofFrames = vad ? this.calibration.clip(vad.data.slice(0, 3 * count)) : null;
    checkFinite(values, ofFrames);
    return {
      intensities: this.calibration.calibrate(values),
      times: Float64Array.from({ length: count }, (_, i) => (first + hop * i) / SAMPLE_RATE),
      vad: ofFrames,
      novelty: pooled ? this.calibration.measureNovelty(pooled.data) : null,
    };
  }

  /** Return the tensors of the samples and the length of a clip, the inputs of a graph. */
  makeFeed(clip) {
    return {
      samples: new this.ort.Tensor("float32", clip, [1, clip.length]),
      lengths: this.makeNumbers([clip.length]),
    };
  }

  makeNumbers(numbers) {
    return new this.ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [numbers.length]);
  }

  /** Return the outputs of a graph that are used here. */
  select(session, names) {
    return names.filter((name) => session.outputNames.includes(name) && (name !== "vad" || this.spec.vad));
  }
}

class OneGraphEngine extends Engine {
  onePass = false;

  constructor(ort, spec, calibration, graph) {
    super(ort, spec, calibration);
    this.graph = graph;
  }

  run(clip) {
    return this.graph.run(this.makeFeed(clip), this.select(this.graph, ["intensities", "frames", "vad", "pooled"]));
  }
}

class TwoGraphEngine extends Engine {
  onePass = true;

  constructor(ort, spec, calibration, encoder, head) {
    super(ort, spec, calibration);
    Object.assign(this, { encoder, head });
  }

  async run(clip) {
    const { hidden, frames } = await this.#encode(clip, clip.length);
    const window = { rows: [0], starts: [0], ends: [clip.length] }; // no clip has more frames than samples
    const outputs = await this.#regress(hidden, frames, window, ["intensities", "vad", "pooled"]);
    return { ...outputs, frames };
  }

  /** Return the hidden states of a clip; a frame attends to `reach` frames on either side, where an encoder can. */
  async encode(clip, reach) {
    const { hidden } = await this.#encode(clip, reach);
    return { data: hidden.data, frames: hidden.dims[1], features: hidden.dims[2] };
  }

  /** Return the predictions of windows [start, end) of frames: `intensities`, `vad` and the V/A/D of their frames. */
  async predictWindows(hidden, windows) {
    const { targets } = this.spec, tensor = new this.ort.Tensor("float32", hidden.data, [1, hidden.frames, hidden.features]);
    const fields = {
      rows: windows.map(() => 0),
      starts: windows.map(([start]) => start),
      ends: windows.map(([, end]) => end),
    };
    const names = ["intensities", "vad_means"];
    const { intensities, vad_means } = await this.#regress(tensor, this.makeNumbers([hidden.frames]), fields, names);
    checkFinite(intensities.data, vad_means?.data);
    return windows.map((_, row) => ({
      intensities: this.calibration.calibrate(intensities.data.subarray(row * targets.length, (row + 1) * targets.length)),
      vad: vad_means ? this.calibration.clip(vad_means.data.slice(3 * row, 3 * row + 3)) : null,
    }));
  }

  #encode(clip, reach) {
    const feed = this.makeFeed(clip);
    if (this.encoder.inputNames.includes("reach")) {
      feed.reach = new this.ort.Tensor("int64", BigInt64Array.of(BigInt(reach)), []);
    }
    return this.encoder.run(feed, ["hidden", "frames"]);
  }

  #regress(hidden, frames, window, names) {
    const fields = Object.entries(window).map(([name, numbers]) => [name, this.makeNumbers(numbers)]);
    const given = { hidden, frames, ...Object.fromEntries(fields) };
    const feed = Object.fromEntries(this.head.inputNames.map((name) => [name, given[name]]));
    return this.head.run(feed, this.select(this.head, names));
  }
}

function checkFinite(...arrays) {
  if (!arrays.every((values) => !values || values.every(Number.isFinite))) {
    throw new Error("The model predicts NaN or infinity: its weights are damaged. Load the page again.");
  }
}
