// The worker: it opens the model, and predicts recordings and a microphone's sound. Nothing leaves it but results.

import { openEngine } from "./engine.js";
import { LIVE } from "./passes.js";
import { predictRecording } from "./recording.js";
import { Resampler, resample } from "./resample.js";
import { SpeechDetector } from "./silero.js";
import { Stream, computeDelay } from "./stream.js";
import { VoiceDetector } from "./voice_activity.js";
import { SAMPLE_RATE, concatenate, prepareClip } from "./waveform.js";

let model = null; // a promise of {engine, makeDetector}
let job = 0; // the number of the recording at work; another number stops it
let live = null;

const actions = {
  open: ({ base }) => {
    model ??= openModel(base).catch((error) => { model = null; throw error; });
    return model.then(() => ({}));
  },
  predict: ({ id, samples, rate, hop }) => predict(id, samples, rate, hop),
  cancel: () => { job = 0; },
  startLive: ({ rate, hop }) => startLive(rate, hop),
  push: ({ samples }) => pushLive(samples),
  finishLive: ({ id, hop }) => finishLive(id, hop),
};

self.onmessage = async ({ data }) => {
  try {
    const result = await actions[data.action](data);
    self.postMessage({ id: data.id, result });
  } catch (error) {
    self.postMessage({ id: data.id, error: error.message ?? String(error), isCanceled: error === CANCELED });
  }
};

const CANCELED = new Error("canceled");

/** Let messages arrive that wait: ONNX Runtime computes without a break. */
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); resolve(); };
    port2.postMessage(null);
  });
}

/** Load runtime, model and voice detector, and predict a second of silence, so that the first window is not late. */
async function openModel(base) {
  const find = (name) => new URL(name, base).href;
  const contents = await (await get(find("contents.json"))).json();
  const load = makeLoader(find, contents.bytes);
  const ort = await import(find("ort/ort.wasm.min.mjs"));
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { mjs: find("ort/ort-wasm-simd-threaded.mjs") };
  ort.env.wasm.wasmBinary = await load("ort/ort-wasm-simd-threaded.wasm");
  const open = (bytes) => ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const readJson = async (name) => (contents.bytes[name] ? JSON.parse(new TextDecoder().decode(await load(name))) : null);
  const description = await readJson("model/engine.json");
  const novelty = contents.novelty && splitArrays(contents.novelty, await load("model/novelty.bin"));
  const calibration = await readJson("model/calibration.json");
  const engine = await openEngine(ort, description, calibration, novelty, (name) => load(`model/${name}`), open);
  const silero = await open(await load("silero.onnx"));
  const makeDetector = () => new VoiceDetector(new SpeechDetector(ort, silero));
  await engine.predict([prepareClip(new Float32Array(SAMPLE_RATE), engine.spec)]);
  return { engine, makeDetector };
}

async function get(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: the server replied ${response.status}, expected a file. Load the page again.`);
  return response;
}

/** Return a function that loads a file's bytes and reports the progress over all files. */
function makeLoader(find, sizes) {
  const total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  let done = 0;
  return async (name) => {
    const chunks = [], { body } = await get(find(name)), reader = body.getReader();
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      chunks.push(step.value);
      done += step.value.length;
      self.postMessage({ loaded: done, total });
    }
    return new Uint8Array(await new Blob(chunks).arrayBuffer());
  };
}

/** Return arrays by name as {shape, data} from the float32 values of all of them. */
function splitArrays(shapes, bytes) {
  let start = 0;
  return Object.fromEntries(Object.entries(shapes).map(([name, shape]) => {
    const size = shape.reduce((product, length) => product * length, 1);
    const data = new Float32Array(bytes.buffer, start, size);
    start += 4 * size;
    return [name, { shape, data }];
  }));
}

async function predict(id, samples, rate, hop) {
  job = id;
  const { engine, makeDetector } = await model;
  const wave = resample(samples, rate);
  if (!wave.length) throw new Error("The recording holds no samples. Record or export it again.");
  const result = await predictRecording(engine, makeDetector(), wave, hop, async (seconds) => {
    self.postMessage({ id, progress: seconds / (wave.length / SAMPLE_RATE) });
    await pause();
    if (job !== id) throw CANCELED;
  });
  return { ...result, wave };
}

async function startLive(rate, hop) {
  const { engine, makeDetector } = await model;
  const stream = new Stream(engine, makeDetector(), hop, LIVE);
  live = { stream, resampler: new Resampler(rate), all: [], pending: [], isBusy: false, dropped: 0 };
  return { targets: engine.spec.targets, hop, delay: computeDelay(stream) };
}

/** Add samples; while others are at work, they wait. */
async function pushLive(samples) {
  const session = live;
  if (!session) return;
  const added = session.resampler.push(samples);
  session.all.push(added);
  session.pending.push(added);
  if (session.isBusy) return;
  session.isBusy = true;
  try {
    while (session.pending.length && session === live) {
      await predictPending(session);
      await pause();
    }
  } finally {
    session.isBusy = false;
  }
}

/** Predict the newest steps; those that became ready before them are late, and dropped. */
async function predictPending(session) {
  const { stream } = session;
  await stream.push(concatenate(session.pending.splice(0)));
  const groups = await stream.listReady();
  if (!groups.length) return;
  for (const late of groups.splice(0, groups.length - 1)) {
    session.dropped += late.length;
    stream.skip(late);
  }
  const steps = await stream.predict(groups[0]);
  self.postMessage({ steps, dropped: session.dropped });
}

/** End the microphone's recording, and predict all of it. */
function finishLive(id, hop) {
  const { all, resampler } = live;
  live = null;
  return predict(id, concatenate([...all, resampler.flush()]), SAMPLE_RATE, hop);
}
