"""What computes an exported graph: ONNX Runtime, or OpenVINO where it is installed. Neither needs torch."""

import queue
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from emimic.task import ModelError

Feed = dict[str, NDArray[Any]]

Name = Literal["onnx", "openvino"]

RUNTIMES: Final[dict[Name, tuple[str, str]]] = {
    "onnx": ("onnxruntime", "model.onnx"),
    "openvino": ("openvino", "model.xml"),
}
"""By name: the module each needs, and the file that it opens."""


class Runtime(Protocol):
    """A graph ready to run. outputs: the names it can give. streams: how many runs at once are of use; `run` may be
    called from as many threads."""

    outputs: frozenset[str]
    streams: int

    def run(self, names: Sequence[str], feed: Feed) -> list[NDArray[Any]]:
        """Inputs by name -> the named outputs."""
        ...


def installed(runtime: str) -> bool:
    """Whether a runtime of that name is known and can be imported, without importing it."""
    return runtime in RUNTIMES and find_spec(RUNTIMES[runtime][0]) is not None


def open_runtime(
    runtime: Name,
    graph: Path | bytes,
    *,
    threads: int = 1,
    streams: int = 1,
    optimised: bool = False,
) -> Runtime:
    """A graph's file, or ONNX bytes, on the runtime of that name.

    threads: of all streams together. optimised: ONNX Runtime need not look for a better form of the graph. Raises
    ModelError when the runtime is not installed or the graph is damaged.
    """
    name = graph if isinstance(graph, Path) else "the graph"
    if not installed(runtime):
        module = RUNTIMES[runtime][0]
        raise ModelError(f"{name} needs {module}, which isn't installed: pip install {module}")
    try:
        if runtime == "openvino":
            return OpenvinoRuntime(graph, threads=threads, streams=streams)
        return OnnxRuntime(graph, threads=threads, streams=streams, optimised=optimised)
    except Exception as error:  # each library has its own
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name} can't be opened: {reason}. Copy or export it again") from error


class OnnxRuntime:
    """See `open_runtime`."""

    def __init__(self, graph: Path | bytes, *, threads: int, streams: int, optimised: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads // streams)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong arrives as an exception
        # Without VNNI, signed 8-bit weights overflow in the CPU's 16-bit sums. This makes them unsigned, which is right
        # everywhere, but at less than half the speed where VNNI is.
        vnni = _has_vnni()
        options.add_session_config_entry("session.x64quantprecision", "0" if vnni else "1")
        if optimised and vnni:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.outputs = frozenset(one.name for one in self._session.get_outputs())
        self.streams = streams

    def run(self, names: Sequence[str], feed: Feed) -> list[NDArray[Any]]:
        """See `Runtime.run`."""
        return list(self._session.run(list(names), feed))


class OpenvinoRuntime:
    """See `open_runtime`."""

    def __init__(self, graph: Path | bytes, *, threads: int, streams: int) -> None:
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            # Where the CPU has bf16 OpenVINO would take it, a third quicker beside int8; but then a clip's result
            # depends on its company in a batch.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        self.outputs = frozenset(name for one in compiled.outputs for name in one.get_names())
        self.streams = streams
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._waiting.put(compiled.create_infer_request())

    def run(self, names: Sequence[str], feed: Feed) -> list[NDArray[Any]]:
        """See `Runtime.run`."""
        request = self._waiting.get()
        try:
            request.infer(feed)
            # Copies: the request's own memory is used again by its next run.
            return [np.array(request.get_tensor(name).data) for name in names]
        finally:
            self._waiting.put(request)


def _has_vnni() -> bool:
    """Whether the CPU is known to sum 8-bit products in 32 bits; only Linux tells without a library."""
    try:
        found = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = [line.split() for line in found.splitlines() if line.startswith("flags")]
    return bool(flags) and all({"avx512_vnni", "avx_vnni"} & set(line) for line in flags)
