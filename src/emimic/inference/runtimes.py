"""Runtimes of an exported graph: ONNX Runtime, or OpenVINO if it is installed. Neither needs torch."""

import functools
import queue
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from emimic.task import ModelError

Feed = dict[str, NDArray[Any]]

Name = Literal["onnx", "openvino"]


@dataclass(frozen=True, slots=True)
class Library:
    """A runtime's library. module: which it needs. suffix: of the files that it opens."""

    module: str
    suffix: str


RUNTIMES: Final[dict[Name, Library]] = {
    "onnx": Library("onnxruntime", ".onnx"),
    "openvino": Library("openvino", ".xml"),
}
"""Libraries by the runtime's name."""


class Runtime(Protocol):
    """A graph ready to run."""

    @property
    def inputs(self) -> frozenset[str]:
        """Names of its inputs."""
        ...

    @property
    def outputs(self) -> frozenset[str]:
        """Names of its outputs."""
        ...

    @property
    def streams(self) -> int:
        """Number of parallel runs; `run` may be called from as many threads."""
        ...

    def run(self, names: Sequence[str], feed: Feed) -> list[NDArray[Any]]:
        """Return the named outputs for inputs by name."""
        ...


def is_installed(runtime: str) -> bool:
    """Return True if the runtime is known and can be imported, without importing it."""
    return runtime in RUNTIMES and find_spec(RUNTIMES[runtime].module) is not None


def open_runtime(
    runtime: Name,
    graph: Path | bytes,
    *,
    threads: int = 1,
    streams: int = 1,
    optimized: bool = False,
    in_turn: bool = False,
) -> Runtime:
    """Open a graph.

    Args:
        runtime: The runtime's name.
        graph: A file, or ONNX bytes.
        threads: Of all streams together.
        streams: Number of parallel runs.
        optimized: ONNX Runtime skips its own optimization of the graph.
        in_turn: Another graph of the model runs in turn with this one.

    Raises:
        ModelError: The runtime is not installed or the graph is damaged.
    """
    name = graph if isinstance(graph, Path) else "the graph"
    if not is_installed(runtime):
        module = RUNTIMES[runtime].module
        raise ModelError(f"{name} needs {module}, which isn't installed: pip install {module}")
    try:
        if runtime == "openvino":
            return OpenvinoRuntime(graph, threads=threads, streams=streams)
        return OnnxRuntime(graph, threads=threads, streams=streams, optimized=optimized, in_turn=in_turn)
    except Exception as error:  # each library has its own
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name} can't be opened: {reason}. Copy or export it again") from error


class OnnxRuntime:
    """A graph on ONNX Runtime, see `open_runtime`."""

    def __init__(
        self, graph: Path | bytes, *, threads: int, streams: int, optimized: bool, in_turn: bool
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads // streams)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors arrive as exceptions
        if in_turn:
            # Threads that spin after a run take the cores from the other graph: a clip took twice the time.
            options.add_session_config_entry("session.force_spinning_stop", "1")
        # Without VNNI, signed 8-bit weights overflow in the CPU's 16-bit sums. Unsigned ones are correct on every CPU,
        # but with VNNI at less than half the speed.
        vnni = _has_vnni()
        options.add_session_config_entry("session.x64quantprecision", "0" if vnni else "1")
        if optimized and vnni:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = frozenset(value.name for value in self._session.get_inputs())
        self.outputs = frozenset(output.name for output in self._session.get_outputs())
        self.streams = streams

    def run(self, names: Sequence[str], feed: Feed) -> list[NDArray[Any]]:
        """Run the graph, see `Runtime.run`."""
        return list(self._session.run(list(names), feed))


@functools.cache
def _get_openvino_core() -> Any:
    """Return the one core of this process.

    OpenVINO's CPU plugin gives the thread that loads it a stack for signals, and restores the one before when it is
    unloaded. Unloaded in another order than loaded, two leave a stack that is gone, and the next signal, as Ctrl-C,
    ends the process without a message (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


class OpenvinoRuntime:
    """A graph on OpenVINO, see `open_runtime`."""

    def __init__(self, graph: Path | bytes, *, threads: int, streams: int) -> None:

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            # On a CPU with bf16 OpenVINO would use it, a third faster with int8; but then a clip's result depends on
            # the other clips of its batch.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = _get_openvino_core()
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        self.inputs = frozenset(name for value in compiled.inputs for name in value.get_names())
        self.outputs = frozenset(name for output in compiled.outputs for name in output.get_names())
        self.streams = streams
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._waiting.put(compiled.create_infer_request())

    def run(self, names: Sequence[str], feed: Feed) -> list[NDArray[Any]]:
        """Run the graph, see `Runtime.run`."""
        request = self._waiting.get()
        try:
            request.infer(feed)
            # Copies: the request's next run overwrites its memory.
            return [np.array(request.get_tensor(name).data) for name in names]
        finally:
            self._waiting.put(request)


@dataclass(frozen=True, slots=True)
class TwoGraphs:
    """A model as two graphs, which run as one: the head reads the encoder's hidden states and frames.

    encoder: inputs samples and lengths, outputs hidden and frames. head: inputs hidden, frames and windows.
    """

    encoder: Runtime
    head: Runtime

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the inputs of both graphs, except those that are outputs of the encoder."""
        return (self.encoder.inputs | self.head.inputs) - self.encoder.outputs

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the outputs of both graphs."""
        return self.encoder.outputs | self.head.outputs

    @property
    def streams(self) -> int:
        """Number of parallel runs."""
        return self.encoder.streams

    def run(self, names: Sequence[str], feed: Feed) -> list[NDArray[Any]]:
        """Run the graphs, see `Runtime.run`."""
        own = sorted(self.encoder.outputs)
        encoded = {name: feed[name] for name in self.encoder.inputs}
        arrays = dict(zip(own, self.encoder.run(own, encoded), strict=True))
        rest = [name for name in names if name not in arrays]
        given = {name: value for name, value in {**feed, **arrays}.items() if name in self.head.inputs}
        arrays.update(zip(rest, self.head.run(rest, given), strict=True))
        return [arrays[name] for name in names]


def _has_vnni() -> bool:
    """Return True if the CPU sums 8-bit products in 32 bits; only Linux reports it without a library."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = [line.split() for line in text.splitlines() if line.startswith("flags")]
    return bool(flags) and all({"avx512_vnni", "avx_vnni"} & set(line) for line in flags)
