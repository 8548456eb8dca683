// The page's side of the worker.

/** A worker that inherits this page's content security policy: one from an address of its own would have none. */
function startWorker() {
  const script = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  return new Worker(address, { type: "module" });
}

/** Requests to the worker, and its reports. */
export class Client {
  /**
   * @param onLoad called with the bytes loaded and the bytes of all files
   * @param onSteps called with the steps of the microphone's sound, and the number of late ones that were dropped
   */
  constructor(onLoad, onSteps) {
    this.waiting = new Map();
    this.number = 0;
    this.worker = startWorker();
    this.worker.onmessage = ({ data }) => {
      if (data.steps) onSteps(data.steps, data.dropped);
      else if (data.total) onLoad(data.loaded, data.total);
      else this.#settle(data);
    };
    this.worker.onerror = (event) => {
      const error = new Error(`The page's worker failed (${event.message ?? "it didn't load"}). Load the page again.`);
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
  }

  /** Return the result of an action; `onProgress` is called with a fraction. */
  request(action, fields = {}, { transfer = [], onProgress = () => {} } = {}) {
    const id = ++this.number;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, onProgress });
      this.worker.postMessage({ id, action, ...fields }, transfer);
    });
  }

  #settle({ id, progress, result, error, isCanceled }) {
    const request = this.waiting.get(id);
    if (!request) return;
    if (progress !== undefined) {
      request.onProgress(progress);
      return;
    }
    this.waiting.delete(id);
    if (error === undefined) request.resolve(result);
    else request.reject(Object.assign(new Error(error), { isCanceled }));
  }
}
