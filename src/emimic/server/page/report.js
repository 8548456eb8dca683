// A result on the page, in the form of the HTML report: sound, timelines with a cursor, table, downloads.

import { computeInterval } from "./calibration.js";
import { toCsv, toJson, toVtt } from "./formats.js";
import { drawPanel, drawSilence, drawWaveform, findSilences, makePanels, wrapSvg } from "./panels.js";
import { makeVadNames } from "./steps.js";
import { TimelineView, formatNumber, formatTime } from "./timeline_view.js";
import { encodeWav } from "./wav.js";

const TYPES = { csv: "text/csv", json: "application/json", vtt: "text/vtt" };

let addresses = []; // of blobs, of the result that is shown

/** Show a result in a section; `sound` is its file, null for the microphone's. */
export function showReport(section, template, result, sound, version) {
  addresses.forEach((address) => URL.revokeObjectURL(address));
  addresses = [];
  section.replaceChildren(template.content.cloneNode(true));
  section.hidden = false;
  section.querySelector(".title").textContent = result.file;
  section.querySelector(".about").textContent = describe(result);
  section.querySelector(".notes").append(...result.notes.map((note) => makeElement("p", note[0].toUpperCase() + note.slice(1), "note")));
  const panels = makePanels(result, makeVadNames(result.targets)), { seconds } = result;
  drawRows(section, result, panels);
  section.querySelector(".wide").append(makeTable(result, panels));
  play(section.querySelector("audio"), sound, result.wave);
  new TimelineView(section, { seconds, lines: panels.map(({ line }) => line) });
  for (const button of section.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => download(button.dataset.format, result, version));
  }
  section.querySelector(".title").focus();
}

/** Return an element with a text. */
export function makeElement(tag, text = "", look = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (look) element.className = look;
  return element;
}

/** Return the name, unit, value and limits at the left of a row. */
export function makeName(name, unit, top, bottom, value) {
  const row = makeElement("div"), label = makeElement("span", name);
  label.append(makeElement("small", unit));
  row.append(label, ...(value === null ? [] : [makeElement("span", value, "value")]));
  row.append(makeElement("i", top, "top"), makeElement("i", bottom, "bottom"));
  return row;
}

/** Return the name of a panel's row. */
export function makePanelName({ name, look, low, high }) {
  const unit = look === "vad" ? "0 to 1" : "intensity, 0 to 1";
  return makeName(name, unit, String(high), String(low).replace("-", "−"), "–");
}

function drawRows(section, { seconds, timeline, wave }, panels) {
  const { svg, peak } = drawWaveform(wave), limit = Number(peak.toPrecision(2));
  section.querySelector(".names").append(
    makeName("waveform", "of full scale", String(limit), `−${limit}`, null),
    ...panels.map(makePanelName),
  );
  const silences = findSilences(timeline).map((silence) => drawSilence(silence, seconds)).join("");
  const rows = [svg, ...panels.map((panel) => drawPanel(panel, seconds))];
  const box = section.querySelector("#panels");
  box.setAttribute("aria-valuemax", seconds.toFixed(3));
  box.insertAdjacentHTML("afterbegin", rows.map((row) => wrapSvg(silences + row)).join(""));
}

/** Return the subtitle. */
function describe({ seconds, timeline, covered, novelty, was_cut, intervals }) {
  const { window, hop, voice_segments } = timeline, voiced = voice_segments.reduce((sum, { start, end }) => sum + end - start, 0);
  const length = seconds < 90 ? `${Number(seconds.toFixed(2))} s` : formatTime(seconds, 0);
  const voice = voice_segments.length
    ? `Voice segments: ${voice_segments.length}, together ${Number(voiced.toFixed(1))} s.`
    : "No voice was found in it.";
  const part = was_cut ? `Its beginning (the first ${Number(covered.toFixed(1))} s)` : "As one clip, it";
  const unlike = novelty > 1 ? ` ${part} is unlike the data the model was trained on: trust its values less.` : "";
  const band = intervals ? `; pale band: ${writeLevel(intervals)}` : "";
  return `${length}; each value: the prediction for the ${window} s around it, every ${hop} s; gray: no voice${band}. ${voice}${unlike}`;
}

function writeLevel({ level }) {
  return `${Math.round(100 * level)} % prediction interval`;
}

/** Return the table of the headline, and of each line's mean, maximum and its time. */
function makeTable(result, panels) {
  const { headline, covered, intervals } = result, isMean = headline.basis === "mean over time";
  const table = makeElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  table.prepend(makeElement("caption", "Values from 0 to 1 (no unit) of the recording"));
  head.append(makeElement("td"));
  const second = isMean ? `first ${Number(covered.toFixed(1))} s` : "mean over time";
  const heads = [headline.basis, ...(intervals ? [writeLevel(intervals).replace("prediction ", "")] : []), second, "highest", "at"];
  for (const text of heads) head.append(makeElement("th", text));
  const values = [...headline.intensities, ...(headline.vad ?? [])], clip = [...result.intensities, ...(result.vad ?? [])];
  panels.forEach((panel, i) => {
    const row = body.insertRow(), name = makeElement("th", panel.name), first = makeElement("td", format(values[i]));
    name.scope = "row";
    if (Number.isFinite(values[i])) first.append(makeMeter(values[i]));
    const [mean, highest, time] = summarize(panel, result.seconds);
    const range = intervals ? [writeInterval(computeInterval(intervals, panel.name, values[i]))] : [];
    const texts = [...range, isMean ? format(clip[i]) : mean, highest, time];
    row.append(name, first, ...texts.map((text) => makeElement("td", text)));
  });
  return table;
}

function writeInterval(edges) {
  return edges[0] === null ? "–" : edges.map(format).join(" to ");
}

function makeMeter(value) {
  const meter = makeElement("meter");
  Object.assign(meter, { min: 0, max: 1, value });
  meter.setAttribute("aria-hidden", "true");
  return meter;
}

function summarize({ mean, near }, seconds) {
  if (!Number.isFinite(mean)) return ["–", "–", "–"];
  const highest = near.points.reduce((best, point) => (point.high > (best?.high ?? -Infinity) ? point : best), null);
  const time = seconds < 90 ? `${highest.time.toFixed(1)} s` : formatTime(highest.time, 0);
  return [format(mean), format(highest.high), time];
}

function format(value) {
  return Number.isFinite(value) ? formatNumber(value, 2) : "–";
}

/** Let the player play the file or, where the browser can't, the samples that were predicted. */
function play(player, sound, wave) {
  const useSamples = () => { player.src = keep(encodeWav(wave)); };
  if (!sound) {
    useSamples();
    return;
  }
  player.addEventListener("error", (event) => { event.stopImmediatePropagation(); useSamples(); }, { once: true });
  player.src = keep(sound);
}

function keep(blob) {
  addresses.push(URL.createObjectURL(blob));
  return addresses[addresses.length - 1];
}

function download(format, result, version) {
  const text = { csv: toCsv, json: (one) => toJson(one, version), vtt: toVtt }[format](result);
  const link = makeElement("a"), address = URL.createObjectURL(new Blob([text], { type: TYPES[format] }));
  link.href = address;
  link.download = `${result.name}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
