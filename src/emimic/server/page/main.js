// The page: a file or the microphone in, a result out.

import { Client } from "./client.js";
import { decodeSound } from "./decode.js";
import { LiveView } from "./live.js";
import { startMicrophone } from "./microphone.js";
import { showReport } from "./report.js";
import { formatTime } from "./timeline_view.js";

const LIVE_HOP = 0.5; // seconds
const MAX_MINUTES = 60; // of a recording by the microphone, which is held in memory

const find = (id) => document.getElementById(id);
const version = document.querySelector("meta[name=generator]").content.replace("emimic ", "");
const client = new Client(showLoading, (steps, dropped) => view?.addSteps(steps, dropped));
const base = new URL(".", import.meta.url).href;

let isLawRead = false;
let microphone = null; // while it records
let view = null;

const opening = client.request("open", { base });
opening.then(() => { setWork(null); setStatus("Ready."); }, showError);

function showLoading(loaded, total) {
  setWork(loaded / total);
  const size = Math.round(total / 1e6), status = `Loading the model (${size} MB).`;
  if (find("status").textContent !== status) setStatus(status);
}

function setStatus(text) {
  find("status").textContent = text;
}

/** Show the progress of work as a fraction; null for none. */
function setWork(fraction, canStop = false) {
  find("work").hidden = fraction === null;
  find("progress").value = fraction ?? 0;
  find("cancel").hidden = !canStop;
  find("remaining").textContent = "";
}

function showError(error) {
  setWork(null);
  setStatus("");
  find("alert").textContent = error.message;
  find("alert").hidden = false;
}

/** Do some work; show its error, and allow no other meanwhile. */
async function run(work) {
  const inputs = [find("file"), find("record")];
  find("alert").hidden = true;
  inputs.forEach((input) => { input.disabled = true; });
  try {
    await work();
  } catch (error) {
    if (error.isCanceled) setStatus("Stopped.");
    else showError(error);
  } finally {
    inputs.forEach((input) => { input.disabled = false; });
    setWork(null);
  }
}

function predictFile(file) {
  return run(async () => {
    find("report").hidden = true;
    setStatus(`Decoding ${file.name}.`);
    const { samples, rate, notes } = await decodeSound(await file.arrayBuffer(), file.name);
    await opening;
    await predict("predict", { samples, rate }, file.name, notes, file, [samples.buffer]);
  });
}

async function predict(action, fields, file, notes, sound, transfer = []) {
  setStatus(`Predicting ${file}.`);
  setWork(0, true);
  const hop = Number(find("hop").value), start = performance.now();
  const onProgress = (fraction) => {
    setWork(Math.min(1, fraction), true);
    const seconds = (performance.now() - start) / 1000, left = seconds / fraction - seconds;
    if (seconds > 2) find("remaining").textContent = `about ${formatTime(Math.max(0, left), 0)} left`;
  };
  const result = await client.request(action, { ...fields, hop }, { transfer, onProgress });
  result.file = file;
  result.name = file.replace(/(.)\.[^.]*$/, "$1");
  result.notes = [...notes, ...result.marks];
  showReport(find("report"), find("result"), result, sound, version);
  setStatus(`Finished in ${((performance.now() - start) / 1000).toFixed(1)} s.`);
}

/** Return true once the notice of the law was read and confirmed, now or earlier in this visit. */
async function confirmLaw() {
  if (isLawRead) return true;
  const dialog = find("law");
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => { dialog.addEventListener("close", resolve, { once: true }); });
  isLawRead = dialog.returnValue === "agree";
  return isLawRead;
}

async function record() {
  if (!(await confirmLaw())) return;
  await run(async () => {
    try {
      await opening;
      setStatus("Waiting for the microphone.");
      await follow();
    } finally {
      await microphone?.stop();
      [microphone, view] = [null, null];
      find("live").hidden = true;
    }
    const now = new Date(), pad = (number) => String(number).padStart(2, "0");
    const day = `${now.getFullYear()}-${pad(now.getMonth() + 1)}-${pad(now.getDate())}`;
    await predict("finishLive", {}, `recording ${day} ${pad(now.getHours())}.${pad(now.getMinutes())}.wav`, [], null);
  });
}

/** Show lines of the microphone's sound until it is stopped. */
async function follow() {
  const waiting = []; // blocks that arrive before the worker is ready for them
  let take = (block) => waiting.push(block);
  microphone = await startMicrophone((block) => take(block));
  const { rate } = microphone, session = await client.request("startLive", { rate, hop: LIVE_HOP });
  find("report").hidden = true;
  find("live").hidden = false;
  view = new LiveView(find("live"), { ...session, rate });
  const stopped = new Promise((resolve) => { find("stop").addEventListener("click", resolve, { once: true }); });
  take = (block) => {
    view.addBlock(block);
    client.request("push", { samples: block }, { transfer: [block.buffer] }).catch(showError);
    if (view.seconds > 60 * MAX_MINUTES) find("stop").click();
  };
  waiting.splice(0).forEach(take);
  setStatus("Recording.");
  find("stop").focus();
  await stopped;
}

find("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) predictFile(file);
  target.value = "";
});
find("record").addEventListener("click", record);
find("cancel").addEventListener("click", () => client.request("cancel"));
for (const event of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(event, (happened) => {
    happened.preventDefault();
    document.body.classList.toggle("over", event === "dragover");
    const file = event === "drop" && !find("file").disabled && happened.dataTransfer.files[0];
    if (file) predictFile(file);
  });
}
