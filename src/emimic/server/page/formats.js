// A result as CSV, JSON and WebVTT, as emimic/output/formats writes them.

import { computeInterval } from "./calibration.js";
import { roundEven } from "./rounding.js";
import { VAD, makeSteps, makeTargetNames } from "./steps.js";

const SCHEMA = "emimic/results/1";
const SHOWN = 3; // intensities of a caption

/** Return a CSV with one row per step. */
export function toCsv(result) {
  const { timeline } = result, { names, values } = makeSteps(result);
  const header = ["Seconds", "Start", "End", ...makeTargetNames(names)].map(quote);
  const rows = values.map((row, i) => [
    ...[timeline.times[i], timeline.starts[i], timeline.ends[i]].map((second) => second.toFixed(4)),
    ...row.map((value) => (Number.isFinite(value) ? value.toFixed(6) : "")),
  ]);
  return [header, ...rows].map((row) => `${row.join(",")}\n`).join("");
}

function quote(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return JSON of a result; see the schema of emimic/results/1. */
export function toJson(result, version) {
  const { targets, headline, vad, novelty, intervals } = result;
  const clip = {
    Filename: result.name,
    file: result.file,
    seconds: round(result.seconds, 3),
    was_cut: result.was_cut,
    was_padded: result.was_padded,
    was_silent: result.was_silent,
    notes: result.notes,
    intensities: nameValues(targets, result.intensities),
    ...(vad && { vad_mean: nameValues(VAD, vad) }),
    headline: {
      basis: headline.basis,
      intensities: nameValues(targets, headline.intensities),
      ...(headline.vad && { vad: nameValues(VAD, headline.vad) }),
    },
    ...(intervals && { intervals: makeIntervals(intervals, targets, headline) }),
    ...(novelty !== null && { novelty: round(novelty), unlike_training_data: novelty > 1 }),
    timeline: makeFields(result),
  };
  return `${JSON.stringify({ schema: SCHEMA, emimic: version, targets, clips: [clip], failed: [] }, null, 1)}\n`;
}

function makeFields({ targets, timeline, intervals }) {
  const take = (rows, i) => rows.map((row) => round(row[i]));
  const byName = (names, rows) => Object.fromEntries(names.map((name, i) => [name, take(rows, i)]));
  const [times, starts, ends] = [timeline.times, timeline.starts, timeline.ends].map((list) => list.map((t) => round(t, 3)));
  const bound = (names, rows) => Object.fromEntries(names.map((name, i) => {
    const pairs = rows.map((row) => computeInterval(intervals, name, row[i]).map((edge) => round(edge)));
    return [name, { low: pairs.map(([low]) => low), high: pairs.map(([, high]) => high) }];
  }));
  return {
    window: timeline.window,
    hop: timeline.hop,
    method: timeline.method,
    times,
    starts,
    ends,
    intensities: byName(targets, timeline.intensities),
    voice_segments: timeline.voice_segments.map(({ start, end }) => ({ start: round(start, 3), end: round(end, 3) })),
    ...(timeline.vad && { vad: { times, values: byName(VAD, timeline.vad) } }),
    ...(intervals && {
      intervals: {
        level: intervals.level,
        intensities: bound(targets, timeline.intensities),
        ...(timeline.vad && { vad: bound(VAD, timeline.vad) }),
      },
    }),
  };
}

function makeIntervals(intervals, targets, { intensities, vad }) {
  const bound = (names, values) => Object.fromEntries(
    names.map((name, i) => [name, computeInterval(intervals, name, values[i]).map((edge) => round(edge))]),
  );
  return {
    level: intervals.level,
    intensities: bound(targets, intensities),
    ...(vad && { vad: bound(VAD, vad) }),
  };
}

function nameValues(names, values) {
  return Object.fromEntries(names.map((name, i) => [name, round(values[i])]));
}

function round(value, digits = 6) {
  return Number.isFinite(value) ? Number(value.toFixed(digits)) : null;
}

/** Return WebVTT: captions of about a second with the highest intensities; silent steps have none. */
export function toVtt(result) {
  const cues = listCaptions(result).map(([start, end, text]) => `${formatTime(start)} --> ${formatTime(end)}\n${text}\n`);
  return `${["WEBVTT\n", ...cues].join("\n")}`;
}

function listCaptions(result) {
  const { starts, ends, values } = makeSteps(result), { targets } = result, runs = [];
  values.forEach((row, i) => {
    if (!row.slice(0, targets.length).every(Number.isFinite) || starts[i] >= ends[i]) return;
    const run = runs[runs.length - 1];
    if (run && run[run.length - 1] === i - 1) run.push(i);
    else runs.push([i]);
  });
  return runs.flatMap((run) => {
    const ms = ends[run[run.length - 1]] - starts[run[0]];
    return split(run, Math.min(Math.max(1, roundEven(ms / 1000)), run.length)).map((part) => {
      const means = targets.map((_, i) => part.reduce((sum, step) => sum + values[step][i], 0) / part.length);
      return [starts[part[0]], ends[part[part.length - 1]], describe(targets, means)];
    });
  });
}

/** Return a list in `count` parts whose lengths differ by at most one, the longer ones first. */
function split(list, count) {
  const size = Math.floor(list.length / count), longer = list.length % count;
  return Array.from({ length: count }, (_, i) => {
    const start = i * size + Math.min(i, longer);
    return list.slice(start, start + size + (i < longer ? 1 : 0));
  });
}

function describe(names, values) {
  const highest = names.map((_, i) => i).sort((a, b) => values[b] - values[a]).slice(0, SHOWN);
  return highest.map((i) => `${escape(names[i])} ${Math.max(values[i], 0).toFixed(2)}`).join(" · ");
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function formatTime(ms) {
  const pad = (number, digits = 2) => String(number).padStart(digits, "0");
  const seconds = Math.floor(ms / 1000), minutes = Math.floor(seconds / 60);
  return `${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}:${pad(seconds % 60)}.${pad(ms % 1000, 3)}`;
}
