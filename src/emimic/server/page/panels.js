// Waveforms and timelines as SVG, as emimic/output/html_svg.py draws them.

import { computeInterval } from "./calibration.js";
import { SAMPLE_RATE, findRange } from "./waveform.js";

const BINS = 8000; // of a waveform
const MAX_POINTS = 1000; // of a line, about one per pixel
const THINNED = 450; // means with their range, of a line with more values
const NEAR_POINTS = 4000; // of a magnified line

/** Return the waveform's `svg` and its peak. */
export function drawWaveform(samples) {
  const size = Math.max(1, Math.ceil(samples.length / BINS)), bins = [];
  for (let start = 0; start < samples.length; start += size) {
    bins.push(findRange(samples, start, Math.min(samples.length, start + size)));
  }
  const seconds = samples.length / SAMPLE_RATE;
  return drawEnvelope(bins, (i) => (1000 * (i + 0.5) * size) / SAMPLE_RATE / seconds);
}

/** Return the `svg` of bins {low, high} at the places `findX(i)`, scaled to their peak. */
export function drawEnvelope(bins, findX) {
  const peak = bins.reduce((highest, { low, high }) => Math.max(highest, high, -low), 0) || 1;
  const points = bins.map(({ low, high }, i) => ({ x: findX(i), low: 50 - (48 * low) / peak, high: 50 - (48 * high) / peak }));
  return { svg: points.length ? drawPath("wave", outline(points)) : "", peak };
}

/** Return the panels of a result: {name, look, line, mean, far, near, low, high, edges}, one per target and per V/A/D. */
export function makePanels({ targets, timeline, intervals }, vadNames) {
  const groups = [[targets, timeline.intensities, (i) => `c${i % 6}`], [vadNames, timeline.vad, () => "vad"]];
  return groups.flatMap(([names, rows, chooseLook]) => {
    if (!rows) return [];
    const { low, high } = findLimits(rows);
    return names.map((name, i) => {
      const values = rows.map((row) => row[i]), panel = makePanel(name, chooseLook(i), timeline, values, low, high);
      return { ...panel, edges: intervals?.widths[name] ? thinInterval(intervals, name, timeline.times, values) : null };
    });
  });
}

/** Return the lower and the upper edge of the prediction intervals of values, as points {time, mean}. */
function thinInterval(intervals, name, times, values) {
  const pairs = values.map((value) => computeInterval(intervals, name, value).map((edge) => edge ?? NaN));
  const maxPoints = times.length <= MAX_POINTS ? MAX_POINTS : THINNED;
  return [0, 1].map((i) => thin(times, pairs.map((pair) => pair[i]), maxPoints).points);
}

/** Return the axis limits for rows of values: 0 and 1, or wider, rounded to a tenth. */
function findLimits(rows) {
  const values = rows.flat().filter(Number.isFinite), { low, high } = findRange(values);
  if (!values.length) return { low: 0, high: 1 };
  return { low: Math.min(0, Math.floor(10 * low) / 10), high: Math.max(1, Math.ceil(10 * high) / 10) };
}

function makePanel(name, look, { times, hop }, values, low, high) {
  const known = values.filter(Number.isFinite);
  const far = thin(times, values, times.length <= MAX_POINTS ? MAX_POINTS : THINNED);
  const near = thin(times, values, NEAR_POINTS);
  const range = findRange(known), round = (value) => (known.length ? Number(value.toFixed(4)) : null);
  const line = {
    name,
    reach: hop,
    low,
    high,
    lowest: round(range.low),
    highest: round(range.high),
    times,
    values: values.map((value) => (Number.isFinite(value) ? value : null)),
  };
  const mean = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
  return { name, look, line, mean, far, near, low, high };
}

/** Return a line of at most `maxPoints` points {time, mean, low, high}, each of `each` values; a gap is NaN. */
function thin(times, values, maxPoints) {
  const each = Math.max(1, Math.ceil(times.length / maxPoints)), points = [];
  for (let start = 0; start < times.length; start += each) {
    const part = times.slice(start, start + each), known = values.slice(start, start + each).filter(Number.isFinite);
    points.push({
      time: part.reduce((sum, time) => sum + time, 0) / part.length,
      mean: known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN,
      ...(known.length ? findRange(known) : { low: NaN, high: NaN }),
    });
  }
  return { each, points };
}

/** Return interval, grid and line of a panel over the `seconds` from `start` on. */
export function drawPanel(panel, seconds, start = 0) {
  const place = makePlace(panel), draw = (line) => drawLine(panel, line, seconds, start);
  const grid = drawPath("grid", [0, 0.5, 1].map((y) => `M0 ${place(y).toFixed(1)}h1000`).join(""));
  const below = drawInterval(panel, seconds, start) + grid;
  if (panel.far.each === 1) return below + draw(panel.far);
  return `${below}<g class="far">${draw(panel.far)}</g><g class="near">${draw(panel.near)}</g>`;
}

/** Return the function from a value to its height. */
function makePlace({ low, high }) {
  return (value) => 98 - (96 / (high - low)) * (value - low);
}

/** Return the prediction intervals as a band, broken at gaps. */
function drawInterval(panel, seconds, start) {
  if (!panel.edges) return "";
  const place = makePlace(panel), [lows, highs] = panel.edges;
  const points = lows.map(({ time, mean }, i) => ({ x: (1000 * (time - start)) / seconds, low: place(mean), high: place(highs[i].mean) }));
  return drawPath(`interval band ${panel.look}`, splitRuns(points, ({ low }) => low).map(outline).join(""));
}

/** Return the runs of points without a gap, which is where `read(point)` is NaN. */
function splitRuns(points, read) {
  const runs = [[]];
  for (const point of points) {
    if (Number.isFinite(read(point))) runs[runs.length - 1].push(point);
    else runs.push([]);
  }
  return runs.filter((run) => run.length);
}

/** Return line and range; the line is broken at a gap, and a single value is a dot. */
function drawLine(panel, { each, points }, seconds, start) {
  const place = makePlace(panel);
  const placed = points.map(({ time, mean, low, high }) => (
    { x: (1000 * (time - start)) / seconds, y: place(mean), low: place(low), high: place(high) }
  ));
  const runs = splitRuns(placed, ({ y }) => y);
  const d = runs.map((run) => `M${run.map(({ x, y }) => writePoint(x, y)).join("L")}${run.length === 1 ? "h.01" : ""}`);
  const band = each > 1 ? drawPath(`band ${panel.look}`, runs.map(outline).join("")) : "";
  return band + drawPath(panel.look, d.join(""));
}

/** Return the box of a silent segment. */
export function drawSilence({ start, end }, seconds) {
  return `<rect class="silence" x="${(1000 * start) / seconds}" width="${(1000 * (end - start)) / seconds}" height="100"/>`;
}

/** Return the segments between the voice segments. */
export function findSilences({ voice_segments, seconds }) {
  const edges = [0, ...voice_segments.flatMap(({ start, end }) => [start, end]), seconds], silences = [];
  for (let i = 0; i < edges.length; i += 2) if (edges[i + 1] > edges[i]) silences.push({ start: edges[i], end: edges[i + 1] });
  return silences;
}

/** Return a panel's SVG, stretched to the page's width; inside it is 1000 wide and 100 high. */
export function wrapSvg(content) {
  return `<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">${content}</svg>`;
}

function outline(points) {
  const upper = points.map(({ x, high }) => writePoint(x, high)), lower = points.map(({ x, low }) => writePoint(x, low));
  return `M${[...upper, ...lower.reverse()].join("L")}z`;
}

function writePoint(x, y) {
  return `${Number(x.toPrecision(6))} ${y.toFixed(1)}`;
}

function drawPath(look, d) {
  return `<path class="${look}" d="${d}"/>`;
}
