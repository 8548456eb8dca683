// The microphone: blocks of mono samples at the rate of the sound card.

const OPTIONS = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

const REASONS = {
  NotAllowedError: "The microphone was not allowed. Allow it for this page in your browser, then try again.",
  NotFoundError: "Found no microphone. Connect one, then try again.",
  NotReadableError: "The microphone can't be read: another program may use it. Close that, then try again.",
};

/** Start the microphone; return its `rate` and a function that stops it. `onBlock` is called with samples. */
export async function startMicrophone(onBlock) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the microphone only to pages from https or from this computer. Open the page there.");
  }
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: OPTIONS });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The microphone can't be used (${error.message}).`, { cause: error });
  }
  const context = new AudioContext();
  const stop = () => {
    for (const track of media.getTracks()) track.stop();
    return context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("microphone_worklet.js", import.meta.url));
  } catch (error) {
    await stop();
    throw new Error(`The microphone's script didn't load (${error.message}). Load the page again.`, { cause: error });
  }
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => onBlock(data);
  context.createMediaStreamSource(media).connect(node);
  await context.resume();
  return {
    rate: context.sampleRate,
    stop: () => {
      node.port.onmessage = null;
      return stop();
    },
  };
}
