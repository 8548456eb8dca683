// A timeline's steps on a grid of whole milliseconds, as in emimic/inference/steps.py.

import { roundEven } from "./rounding.js";

export const VAD = ["Arousal", "Dominance", "Valence"];

const COLUMNS = ["Filename", "Seconds", "Start", "End", "Basis", "Novelty"];

/** Return names of the V/A/D columns, distinct from targets of the same name. */
export function makeVadNames(targets) {
  return VAD.map((name) => (targets.includes(name) ? `${name} (VAD)` : name));
}

/** Return names of columns, distinct from a table's other columns. */
export function makeTargetNames(names) {
  return names.map((name) => (COLUMNS.includes(name) ? `${name} (intensity)` : name));
}

/** Return `starts` and `ends` (ms), `values` by step (intensities, then V/A/D) and their `names`. */
export function makeSteps({ targets, seconds, timeline }) {
  const total = Math.max(1, roundEven(seconds * 1000));
  const edges = computeEdges(timeline.times, timeline.hop, seconds);
  const milliseconds = edges.map((edge) => roundEven(Math.min(total / 1000, Math.max(0, edge)) * 1000));
  return {
    starts: milliseconds.slice(0, -1),
    ends: milliseconds.slice(1),
    values: timeline.intensities.map((row, i) => [...row, ...(timeline.vad ? timeline.vad[i] : [])]),
    names: [...targets, ...(timeline.vad ? makeVadNames(targets) : [])],
  };
}

/** Return the edges in seconds of steps with these centers: midway between them, half a hop outside. */
function computeEdges(times, hop, seconds) {
  const end = times[times.length - 1] + hop / 2;
  // A remainder shorter than half a hop has no step; the last step represents it too.
  const last = end < seconds && seconds < end + hop / 2 ? seconds : end;
  return [times[0] - hop / 2, ...times.slice(1).map((time, i) => (times[i] + time) / 2), last];
}
