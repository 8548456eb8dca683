"""Solve the layer for Joy of speech again in an exported model that benchmarks/configs/default.yaml has made.

    python -m benchmarks.solve_speech MODEL CORPORA OUT     # writes `folds` of docs/results/default.json, too

MODEL: the ONNX export, float32 or int8. CORPORA: made by benchmarks/default_corpora.py. The layer is linear in the
means of frozen layers' frames, so it has a solution in closed form (emimic.training.probes) that needs no training;
the rest of the graph stays as it is. It is fitted to the recordings as they are, at the export's own precision.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from benchmarks.bursts import write_record
from benchmarks.command import make_parser
from benchmarks.default import NOTE, RESULTS, Array, Wave, by_group, items_of, joy
from emimic.data import loader
from emimic.data.corpus import Item
from emimic.inference.engine import open_engine
from emimic.media.waveform import ClipFormat
from emimic.task import EMOTIONS
from emimic.training.probes import fit_ridge, to_logits

STRENGTH = 90.0
PLAIN_WEIGHT = 0.1
MOMENTS = "/domains/Concat_output_0"
OWN = "/domains/speech/Gemm"


def read_moments(model: onnx.ModelProto, clips: Sequence[Wave]) -> Array:
    """Return the inputs of the domains' layers, (clip, 2 * feature): means, then standard deviations."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.append(helper.make_empty_tensor_value_info(MOMENTS))
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = []
    for samples in clips:
        given = {"samples": samples[None], "lengths": np.array([len(samples)], np.int64)}
        rows.append(session.run([MOMENTS], given)[0][0])
    return np.stack(rows).astype(np.float64)


def read_clips(items: Sequence[Item], form: ClipFormat) -> list[Wave]:
    """Return the items' waveforms as the model takes them."""
    return [form.prepare(loader.load(item, form.max_seconds or 12.0)).samples for item in items]


def solve(x: Array, items: Sequence[Item]) -> tuple[Array, float]:
    """Return slope (feature,) and intercept of Joy's logit on the clips that have its label."""
    y = np.array([item.labels[EMOTIONS.index("Joy")] for item in items], np.float64)  # type: ignore[index]
    weights = np.array([PLAIN_WEIGHT if item.speaker is None else 1.0 for item in items])
    known = np.isfinite(y)
    return fit_ridge(x[known], to_logits(y[known]), weights[known], STRENGTH)


def replace(model: onnx.ModelProto, slope: Array, intercept: float) -> None:
    """Set the layer, with a sigmoid after it, in place."""
    graph = model.graph
    node = next(node for node in graph.node if node.name == OWN)
    weight = np.concatenate([slope, np.zeros(len(slope))]).astype(np.float32)[None]
    graph.initializer.append(numpy_helper.from_array(weight, "domains.own.speech.solved"))
    graph.initializer.append(
        numpy_helper.from_array(np.array([intercept], np.float32), "domains.own.speech.shift")
    )
    made = node.output[0]
    node.input[1:] = ["domains.own.speech.solved", "domains.own.speech.shift"]
    transposed = {attribute.name: attribute for attribute in node.attribute}.get("transB")
    if transposed is None or transposed.i != 1:
        raise SystemExit(f"{OWN} has weights of another layout than (target, feature)")
    node.output[0] = f"{made}_logits"
    position = list(graph.node).index(node) + 1
    graph.node.insert(position, helper.make_node("Sigmoid", [node.output[0]], [made], f"{OWN}/Sigmoid"))
    remove_unused(graph)
    onnx.checker.check_model(model)


def remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers whose outputs nothing reads."""
    while True:
        read = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
        unused = [node for node in graph.node if not read.intersection(node.output)]
        for node in unused:
            graph.node.remove(node)
        if not unused:
            break
    for initializer in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(initializer)


def main() -> None:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    form = open_engine(given.model).spec.clip_format
    model = onnx.load(given.model / "model.onnx")
    emodb = [dataclasses.replace(item, trim=True) for item in items_of(given.corpora, "emodb", "train")]
    items = [*emodb, *items_of(given.corpora, "plain", "train")]
    x = read_moments(model, read_clips(items, form))
    means = x[:, : x.shape[1] // 2]
    left_out = np.full((len(emodb), len(EMOTIONS)), np.nan)
    for speaker in sorted({item.speaker for item in emodb}):
        kept = [i for i, item in enumerate(items) if item.speaker != speaker]
        own = [i for i, item in enumerate(emodb) if item.speaker == speaker]
        slope, intercept = solve(means[kept], [items[i] for i in kept])
        left_out[own, EMOTIONS.index("Joy")] = 1 / (1 + np.exp(-(means[own] @ slope + intercept)))
    write_record(
        RESULTS,
        NOTE,
        "folds",
        {"joy": joy(left_out, emodb) | {"by_sex": by_group(left_out, emodb, "Gender")}},
    )
    replace(model, *solve(means, items))
    shutil.copytree(given.model, given.out)
    onnx.save(model, given.out / "model.onnx")
    description = json.loads((given.out / "engine.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256((given.out / "model.onnx").read_bytes()).hexdigest()
    description["files"]["model.onnx"]["sha256"] = digest
    (given.out / "engine.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
