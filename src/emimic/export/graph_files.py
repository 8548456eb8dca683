"""Files of an exported model: its graphs as its runtime opens them, and their hashes."""

from pathlib import Path
from typing import Final, Literal

from emimic.files import compute_sha256, fingerprint
from emimic.inference.description import PARTS
from emimic.inference.runtimes import Name

LARGE: Final = 64 * 2**20
"""Minimum bytes of an int8 graph that is optimized at export, with weights in a separate file, mapped and not parsed;
and of a file that is identified by samples of it. (Smaller graphs stay smaller without optimization, by which ONNX
Runtime stores the 8-bit weights of float32 products in float32.)"""


def optimize(graph: Path, out: Path, *, level: Literal["basic", "extended"]) -> None:
    """Write a graph as ONNX Runtime optimizes it.

    Args:
        graph: The graph's file.
        out: File to write.
        level: basic folds constants and keeps standard operators; extended fuses operators of ONNX Runtime's own and
            stores large weights in a separate file.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        levels.ORT_ENABLE_BASIC if level == "basic" else levels.ORT_ENABLE_EXTENDED
    )
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 4
    if level == "extended":
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{out.stem}.weights"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
        )
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def write_graphs(graph: Path, small: bytes | None, folder: Path, to: Name, *, cuts: bool) -> bool:
    """Replace the graph's file by the files that the runtime opens; return whether they are optimized.

    Args:
        graph: The float32 graph's file.
        small: The int8 graph, to write in its place.
        folder: Where to write.
        to: The runtime.
        cuts: Write an encoder and a head; else one graph.
    """
    import onnx

    from emimic.export.two_graphs import cut, drop_unused_opsets

    optimized = to == "onnx" and len(small or b"") >= LARGE
    source = onnx.load(graph) if small is None else onnx.load_from_string(small)
    graph.unlink()
    parts = dict(zip(PARTS, cut(source), strict=True)) if cuts else {"model": drop_unused_opsets(source)}
    for name, part in parts.items():
        file = folder / f"{name}.onnx"
        if to == "onnx" and not optimized:
            onnx.save(part, file)
            continue
        plain = folder / f"{name}.plain.onnx"
        onnx.save(part, plain)
        if to == "openvino":
            import openvino

            model = openvino.Core().read_model(plain)
            openvino.save_model(model, file.with_suffix(".xml"), compress_to_fp16=False)
        else:
            optimize(plain, file, level="extended")
        plain.unlink()
    return optimized


def hash_file(file: Path) -> dict[str, str]:
    hashes = {"sha256": compute_sha256(file)}
    return hashes | {"fingerprint": fingerprint(file)} if file.stat().st_size >= LARGE else hashes
