// Prediction of a recording: as one clip, and over time. The result has the fields of a Result of emimic/inference.

import { FILE, averageFrames } from "./passes.js";
import { Stream } from "./stream.js";
import { SAMPLE_RATE, isSilent, prepareClip } from "./waveform.js";

const BLOCK = 10 * SAMPLE_RATE; // samples that are added at a time

/**
 * Predict a recording.
 *
 * @param engine see `openEngine`
 * @param detector a VoiceDetector
 * @param samples at 16 kHz
 * @param hop seconds between two steps
 * @param onProgress called with the seconds done, and awaited; it throws to stop
 */
export async function predictRecording(engine, detector, samples, hop, onProgress) {
  const { targets, maxSeconds, minSamples } = engine.spec;
  const head = samples.subarray(0, Math.round(maxSeconds * SAMPLE_RATE));
  const [clip] = await engine.predict([prepareClip(head, engine.spec)]);
  const timeline = await predictTimeline(engine, detector, samples, hop, onProgress);
  const result = {
    targets,
    seconds: samples.length / SAMPLE_RATE,
    was_cut: samples.length > head.length,
    was_padded: head.length < minSamples,
    was_silent: isSilent(head),
    intensities: Array.from(clip.intensities),
    vad: clip.vad && Array.from(averageFrames(clip.vad)),
    novelty: clip.novelty,
    intervals: engine.calibration.intervals,
    timeline,
  };
  // The last frame's center is as far from its end as the first one's is from the clip's start.
  const { times } = clip;
  result.covered = result.was_cut ? Math.min(result.seconds, times[times.length - 1] + times[0]) : result.seconds;
  if (result.was_silent) {
    result.intensities.fill(NaN);
    result.vad?.fill(NaN);
    result.novelty = null;
  }
  return { ...result, headline: makeHeadline(result), marks: listMarks(result) };
}

/** Return the steps of a recording with the fields of a Timeline, by step. */
async function predictTimeline(engine, detector, samples, hop, onProgress) {
  const stream = new Stream(engine, detector, hop, FILE), steps = [];
  const predict = async (last) => {
    for (const group of await stream.listReady(last)) {
      steps.push(...(await stream.predict(group, last)));
      await onProgress(steps[steps.length - 1].time);
    }
  };
  for (let start = 0; start < samples.length; start += BLOCK) {
    await stream.push(samples.subarray(start, start + BLOCK));
    await predict(false);
  }
  await predict(true);
  return {
    seconds: stream.total / SAMPLE_RATE,
    window: stream.grid.window,
    hop,
    method: stream.method,
    times: steps.map((step) => step.time),
    starts: steps.map((step) => step.start),
    ends: steps.map((step) => step.end),
    intensities: steps.map((step) => Array.from(step.intensities)),
    vad: engine.spec.vad ? steps.map((step) => Array.from(step.vad)) : null,
    voice_segments: detector.getVoiceSegments(),
  };
}

/** Return the values to quote and what they describe, as `Result.headline`. */
function makeHeadline({ was_cut, covered, intensities, vad, timeline }) {
  if (was_cut && timeline.intensities.some((row) => Number.isFinite(row[0]))) {
    return {
      basis: "mean over time",
      intensities: averageRows(timeline.intensities),
      vad: timeline.vad && averageRows(timeline.vad),
    };
  }
  return { basis: was_cut ? `first ${Number(covered.toFixed(1))} s` : "whole clip", intensities, vad };
}

/** Return the mean by column of the rows that have values. */
function averageRows(rows) {
  const known = rows.filter((row) => Number.isFinite(row[0]));
  return known[0].map((_, i) => known.reduce((sum, row) => sum + row[i], 0) / known.length);
}

/** Return remarks on the recording, as `Result.remarks` without those on its file. */
function listMarks(result) {
  const { was_cut, was_silent, covered } = result;
  const { basis } = makeHeadline(result), isMean = basis === "mean over time";
  const marks = [];
  if (was_cut) {
    const values = isMean ? `the ${basis}` : `those of the ${basis}`;
    marks.push(`longer than ${Number(covered.toFixed(1))} s, so its values are ${values}`);
  }
  if (was_silent && !isMean) marks.push("silent (below -65 dB of full scale), so it has no values");
  return marks;
}
