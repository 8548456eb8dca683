// Decoding of a file by the browser, at the file's own rate, to the mean of its channels.

const DEFAULT_RATE = 48000; // of containers whose rate is not found, as Opus has it
const LOUDEST = 10; // peaks beyond this are integers stored as floating point, as in emimic/media/waveform.py

/** Return {samples, rate, notes} of a file's content; its channels are averaged. */
export async function decodeSound(content, name) {
  const bytes = new Uint8Array(content);
  if (!bytes.length) throw new Error(`${name}: the file is empty. Record, export or download it again.`);
  const buffer = await decodeAt(findRate(bytes), content, name);
  const { samples, isCanceled } = averageChannels(buffer);
  const peak = samples.reduce((highest, sample) => Math.max(highest, Math.abs(sample)), 0);
  if (peak > LOUDEST) {
    throw new Error(`${name}: the samples peak at ${peak.toPrecision(6)}, expected floating point in [-1, 1]. Export it again.`);
  }
  const notes = isCanceled ? ["its channels cancel each other out (opposite phase); export one of them alone."] : [];
  return { samples, rate: buffer.sampleRate, notes };
}

async function decodeAt(rate, content, name) {
  try {
    return await openContext(rate).decodeAudioData(content);
  } catch (error) {
    throw new Error(
      `${name}: this browser finds no sound in it that it can decode. Convert it to WAV, or use another browser.`,
      { cause: error },
    );
  }
}

/** Return a context at a rate or, where the browser doesn't know it, at another that it resamples to. */
function openContext(rate) {
  try {
    return new OfflineAudioContext(1, 1, rate);
  } catch {
    return new OfflineAudioContext(1, 1, DEFAULT_RATE);
  }
}

/** Return the mean over channels, with 0 for values that are no samples, and true if the channels cancel out. */
function averageChannels(buffer) {
  const { numberOfChannels: count, length } = buffer;
  const channels = Array.from({ length: count }, (_, i) => buffer.getChannelData(i));
  const samples = new Float32Array(length);
  let power = 0, sum = 0;
  for (let i = 0; i < length; i++) {
    let mean = 0;
    for (const channel of channels) {
      const value = Number.isFinite(channel[i]) ? channel[i] : 0;
      mean += value;
      sum += (value * value) / count;
    }
    samples[i] = mean / count;
    power += samples[i] ** 2;
  }
  return { samples, isCanceled: count > 1 && power < 0.01 * sum };
}

/** Return the sample rate that a file's header names; the browser resamples a file with another one. */
export function findRate(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const finders = [findWavRate, findFlacRate, findOggRate, findMp4Rate, findMpegRate];
  for (const find of finders) {
    try {
      const rate = find(bytes, view);
      if (rate >= 3000 && rate <= 384000) return rate;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // a header that is cut off
    }
  }
  return DEFAULT_RATE;
}

function hasText(bytes, position, text) {
  return [...text].every((letter, i) => bytes[position + i] === letter.charCodeAt(0));
}

function findWavRate(bytes, view) {
  if (!hasText(bytes, 0, "RIFF") || !hasText(bytes, 8, "WAVE")) return null;
  let position = 12;
  while (!hasText(bytes, position, "fmt ")) position += 8 + view.getUint32(position + 4, true) + (view.getUint8(position + 4) & 1);
  return view.getUint32(position + 12, true);
}

function findFlacRate(bytes, view) {
  return hasText(bytes, 0, "fLaC") ? view.getUint32(18) >>> 12 : null;
}

function findOggRate(bytes, view) {
  if (!hasText(bytes, 0, "OggS")) return null;
  const start = 27 + view.getUint8(26);
  return hasText(bytes, start + 1, "vorbis") ? view.getUint32(start + 12, true) : DEFAULT_RATE;
}

/** Return the rate of the first audio sample entry of an mp4, m4a or mov file. */
function findMp4Rate(bytes, view) {
  if (!hasText(bytes, 4, "ftyp")) return null;
  for (let i = 8; i + 40 < bytes.length; i++) {
    if (bytes[i] === 0x6d && hasText(bytes, i, "mp4a") && view.getUint32(i - 4) >= 36) return view.getUint16(i + 28);
  }
  return null;
}

/** Return the rate of the first frame of an mp3 file, or of AAC in ADTS. */
function findMpegRate(bytes, view) {
  let i = 0;
  if (hasText(bytes, 0, "ID3")) i = 10 + [6, 7, 8, 9].reduce((size, at) => size * 128 + (bytes[at] & 127), 0);
  while (i + 4 < bytes.length && !(bytes[i] === 0xff && (bytes[i + 1] & 0xe0) === 0xe0)) i++;
  const head = view.getUint32(i), layer = (head >> 17) & 3;
  if (layer === 0) {
    return [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350][(head >> 10) & 15];
  }
  const rate = [44100, 48000, 32000][(head >> 10) & 3], version = (head >> 19) & 3;
  return rate && [rate / 4, null, rate / 2, rate][version];
}
