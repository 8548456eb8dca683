"""Solve the layer for Joy of speech again in an exported model that benchmarks/configs/default.yaml has made.

    python -m benchmarks.solve_speech choose MODEL CORPORA      # figures of each setting: `speech_choice`
    python -m benchmarks.solve_speech write MODEL CORPORA OUT   # the model; `folds`, Joy of EmoDB's speakers left out

MODEL: the ONNX export, float32 or int8, also one whose layer has been solved. CORPORA: made by
benchmarks/default_corpora.py. Figures go into docs/results/default.json. The layer is linear in the means of frozen
layers' frames, so it has a solution in closed form (emimic.training.probes) that needs no training. It is fitted to the
recordings as they are, at the export's own precision: acted German, plain English, and bursts of suffering, without
which sobbing speech got as much Joy as happy speech. Sobbing was also taken for a burst, so the classifier of bursts
and speech is shifted towards speech. The rest of the graph stays as it is.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.bursts import write_record
from benchmarks.command import make_parser
from benchmarks.default import NOTE, RESULTS, Array, Wave, by_group, items_of, joy
from emimic import metrics
from emimic.data import loader
from emimic.data.corpus import Item
from emimic.export.graph_files import hash_file
from emimic.inference.engine import DESCRIPTION, GraphEngine, open_engine
from emimic.media.waveform import ClipFormat
from emimic.progress import show_progress
from emimic.task import EMOTIONS
from emimic.training.probes import fit_ridge, to_logits

JOY: Final = EMOTIONS.index("Joy")
SUFFERING: Final = ("Sadness", "Distress", "Pain", "Fear", "Disappointment", "Guilt", "Shame")
"""Categories of bursts without Joy that speech can sound like."""
PLAIN_WEIGHT: Final = 0.1
MOMENTS: Final = "/domains/Concat_output_0"
OWN: Final = "/domains/speech/Gemm"
DOMAIN: Final = "/domains/domain/Gemm"
MIXED: Final = "/domains/Sub_1"
SOLVED: Final = ("domains.own.speech.solved", "domains.own.speech.shift")
SHIFTED: Final = "domains.domain.shifted"


class Settings(NamedTuple):
    """Penalty of a squared weight, in clips; weight of a clip of suffering; added to the logit of speech."""

    strength: float
    suffering: float
    shift: float


CHOSEN: Final = Settings(60.0, 0.03, 2.0)
GRID: Final = [
    Settings(s, w, d) for s in (30.0, 60.0, 90.0) for w in (0.0, 0.03, 0.1, 0.3) for d in (0.0, 2.0)
]


class Read(NamedTuple):
    """Values inside the graph: means (clip, feature), logits of speech (clip,), the regression head's Joy (clip,)."""

    means: Array
    speech: Array
    joy: Array


def read(model: onnx.ModelProto, clips: Sequence[Wave], name: str) -> Read:
    """Return values inside the graph, for which it has no outputs."""
    nodes = {node.name: node for node in model.graph.node}
    names = [MOMENTS, nodes[DOMAIN].output[0], nodes[MIXED].input[1]]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(each) for each in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = []
    for samples in show_progress(clips, name, total=len(clips), show=sys.stderr.isatty()):
        given = {"samples": samples[None], "lengths": np.array([len(samples)], np.int64)}
        rows.append([part[0].astype(np.float64) for part in session.run(names, given)])
    moments, domains, common = (np.stack(part) for part in zip(*rows, strict=True))
    return Read(moments[:, : moments.shape[1] // 2], domains[:, 1] - domains[:, 0], common.ravel())


def read_clips(items: Sequence[Item], form: ClipFormat) -> list[Wave]:
    """Return the items' waveforms as the model takes them."""
    return [form.prepare(loader.load(item, form.max_seconds or 12.0)).samples for item in items]


def solve(x: Array, items: Sequence[Item], settings: Settings) -> tuple[Array, float]:
    """Return slope (feature,) and intercept of Joy's logit on the clips that have its label."""
    y = np.array([item.labels[JOY] for item in items], np.float64)  # type: ignore[index]
    weight = {"emodb": 1.0, "plain": PLAIN_WEIGHT, "bursts": settings.suffering}
    weights = np.array([weight[item.corpus] for item in items])
    known = np.isfinite(y) & (weights > 0)
    return fit_ridge(x[known], to_logits(y[known]), weights[known], settings.strength)


def predict(known: Read, slope: Array, intercept: float, shift: float) -> Array:
    """Return Joy of clips as the graph with this layer predicts it."""
    weight = sigmoid(known.speech + shift)
    return known.joy + weight * (sigmoid(known.means @ slope + intercept) - known.joy)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-x)))


def replace(model: onnx.ModelProto, slope: Array, intercept: float, shift: float) -> None:
    """Set the layer, with a sigmoid after it, and the shift of the classifier, in place."""
    graph = model.graph
    nodes = {node.name: node for node in graph.node}
    values = {
        SOLVED[0]: np.concatenate([slope, np.zeros(len(slope))])[None],
        SOLVED[1]: np.array([intercept]),
        SHIFTED: np.array([0.0, shift]),
    }
    kept = [one for one in graph.initializer if one.name not in values]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items())
    layer = nodes[OWN]
    transposed = {attribute.name: attribute for attribute in layer.attribute}.get("transB")
    if transposed is None or transposed.i != 1:
        raise SystemExit(f"{OWN} has weights of another layout than (target, feature)")
    layer.input[1:] = SOLVED
    for name, suffix, kind, more in (
        (OWN, "Sigmoid", "Sigmoid", []),
        (DOMAIN, "Add", "Add", [SHIFTED]),
    ):
        if f"{name}/{suffix}" not in nodes:
            made = nodes[name].output[0]
            nodes[name].output[0] = f"{made}_before"
            added = helper.make_node(kind, [f"{made}_before", *more], [made], f"{name}/{suffix}")
            graph.node.insert(list(graph.node).index(nodes[name]) + 1, added)
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


def load_items(corpora: Path) -> list[Item]:
    """Return the clips that the layer is fitted to, EmoDB's first."""
    items = [
        dataclasses.replace(item, corpus=name, trim=name == "emodb")
        for name in ("emodb", "plain", "bursts")
        for item in items_of(corpora, name, "train")
    ]
    return [item for item in items if item.corpus != "bursts" or item.row["Category"] in SUFFERING]


def leave_out(known: Read, items: Sequence[Item], settings: Settings) -> tuple[Array, list[Item]]:
    """Return Joy of EmoDB's clips (clip, target; others NaN), its layer solved without their speaker, and the clips."""
    emodb = [item for item in items if item.corpus == "emodb"]
    left_out = np.full((len(emodb), len(EMOTIONS)), np.nan)
    for speaker in sorted({item.speaker for item in emodb}):
        kept = [i for i, item in enumerate(items) if item.corpus != "emodb" or item.speaker != speaker]
        own = [i for i, item in enumerate(emodb) if item.speaker == speaker]
        slope, intercept = solve(known.means[kept], [items[i] for i in kept], settings)
        left_out[own, JOY] = sigmoid(known.means[own] @ slope + intercept)
    return left_out, emodb


def separate(values: Array, emotion: NDArray[np.str_]) -> dict[str, float]:
    """Return the AUC of Joy, happy speech against each other emotion, and against the rest."""
    happy = emotion == "happiness"
    pairs = {str(other): happy | (emotion == other) for other in sorted({*emotion[~happy]})}
    pairs["rest"] = np.ones(len(emotion), bool)
    return {
        name: float(metrics.compute_auc(values[pair, None], happy[pair, None].astype(float))[0])
        for name, pair in pairs.items()
    }


def choose(model: onnx.ModelProto, form: ClipFormat, corpora: Path) -> list[dict[str, Any]]:
    """Return figures of each setting on EmoDB, speakers left out, ASED's odd speakers, and held-out bursts."""
    items = load_items(corpora)
    known = read(model, read_clips(items, form), "training clips")
    odd, held = items_of(corpora, "ased", "valid"), items_of(corpora, "bursts", "valid")
    amharic, bursts = (read(model, read_clips(part, form), "held-out clips") for part in (odd, held))
    emotion = np.array([item.row["Emotion"] for item in odd])
    labels = np.array([item.labels[JOY] for item in held], np.float64)[:, None]  # type: ignore[index]
    rows = []
    for settings in GRID:
        slope, intercept = solve(known.means, items, settings)
        values = predict(amharic, slope, intercept, settings.shift)
        left_out, emodb = leave_out(known, items, settings)
        german = separate(left_out[:, JOY], np.array([item.row["Emotion"] for item in emodb]))
        burst = predict(bursts, slope, intercept, settings.shift)[:, None]
        rows.append(
            settings._asdict()
            | {
                "emodb": {"happy_against_angry": german["anger"], "happy_against_rest": german["rest"]},
                "ased_odd": separate(values, emotion),
                "joy": {str(name): float(values[emotion == name].mean()) for name in sorted({*emotion})},
                "bursts_pearson": float(metrics.compute_pearson(burst, labels)[0]),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def describe(folder: Path) -> None:
    """Bring an export's description up to date with its changed graph: the hash, and what the check clips get."""
    path = folder / DESCRIPTION
    description = json.loads(path.read_text(encoding="utf-8"))
    description["files"]["model.onnx"] = hash_file(folder / "model.onnx")
    path.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    engine = GraphEngine(folder, threads=1)
    for check in description["checks"]["clips"]:
        (prediction,) = engine.predict_raw([engine.make_check_clip(check["samples"])])
        check["intensities"] = [round(float(value), 7) for value in prediction.intensities]
    path.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("choose", "write"):
        one = verbs.add_parser(verb)
        one.add_argument("model", type=Path)
        one.add_argument("corpora", type=Path)
    one.add_argument("out", type=Path)
    given = parser.parse_args()
    form = open_engine(given.model).spec.clip_format
    model = onnx.load(given.model / "model.onnx")
    if given.verb == "choose":
        write_record(RESULTS, NOTE, "speech_choice", {"settings": choose(model, form, given.corpora)})
        return
    items = load_items(given.corpora)
    known = read(model, read_clips(items, form), "training clips")
    left_out, emodb = leave_out(known, items, CHOSEN)
    write_record(
        RESULTS,
        NOTE,
        "folds",
        {"joy": joy(left_out, emodb) | {"by_sex": by_group(left_out, emodb, "Gender")}},
    )
    replace(model, *solve(known.means, items, CHOSEN), CHOSEN.shift)
    shutil.copytree(given.model, given.out)
    onnx.save(model, given.out / "model.onnx")
    describe(given.out)


if __name__ == "__main__":
    main()
