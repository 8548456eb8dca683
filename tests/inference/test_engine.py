"""Engines: a run on torch and an exported model on ONNX Runtime predict alike; hostile folders are named."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tiny_models
import torch
from onnx import numpy_helper

from emimic import cpus
from emimic.export import export
from emimic.files import compute_sha256
from emimic.inference import engine, runtimes
from emimic.inference.engine import GraphEngine, TorchEngine, open_engine
from emimic.task import ModelError

SHORT = {"max_seconds": 0.5, "vad_learned": True}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny Whisper run and its exported model."""
    folder = tmp_path_factory.mktemp("engines")
    tiny_models.model("whisper", do_normalize=False, **SHORT).save_pretrained(folder / "run")
    export.export(folder / "run", folder / "engine")
    return folder / "run", folder / "engine"


@pytest.fixture
def copy(folders, tmp_path):
    """A copy of the exported model, to be spoilt."""
    return shutil.copytree(folders[1], tmp_path / "engine")


def rehash(folder):
    """Make engine.json agree with whatever the graphs are now."""
    change(folder, files={file.name: {"sha256": compute_sha256(file)} for file in folder.glob("*.onnx")})


def change(folder, **fields):
    file = folder / "engine.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_both_engines_predict_alike(folders):
    ours, theirs = (open_engine(folder) for folder in folders)
    assert type(ours) is TorchEngine
    assert type(theirs) is GraphEngine
    assert ours.spec == theirs.spec
    assert theirs.spec.hop == 320
    assert theirs.spec.first == 0
    clips = [tiny_models.clip(n, seed=n) for n in (400, 8000, 3333, 479, 8000, 5000)]
    for a, b in zip(ours.predict(clips), theirs.predict(clips), strict=True):
        np.testing.assert_allclose(a.intensities, b.intensities, rtol=0, atol=1e-5)
        np.testing.assert_allclose(a.vad, b.vad, rtol=0, atol=1e-5)
        np.testing.assert_allclose(a.times, b.times, rtol=0, atol=1e-12)
        assert b.intensities.dtype == b.vad.dtype == np.float32


def test_company_in_a_batch_changes_nothing(folders):
    ours = GraphEngine(folders[1])
    rng = np.random.default_rng(0)
    clips = [tiny_models.clip(int(n), seed=i) for i, n in enumerate(rng.integers(400, 8001, size=24))]
    alone = [ours.predict([clip])[0] for clip in clips]
    for seconds in (0.01, 1.0, 3.0, 60.0):
        for one, own in zip(ours.predict(clips, batch_seconds=seconds), alone, strict=True):
            np.testing.assert_allclose(one.intensities, own.intensities, rtol=0, atol=1e-5)
            assert one.vad.shape == own.vad.shape == (len(one.times), 3)
            np.testing.assert_allclose(one.vad, own.vad, rtol=0, atol=1e-5)
    assert ours.predict([]) == []


def test_hidden_states_are_the_models_own(folders):
    ours, theirs = (open_engine(folder) for folder in folders)
    clips = [tiny_models.clip(n, seed=n) for n in (400, 8000, 3333)]
    for a, b in zip(ours.predict(clips, hidden=True), theirs.predict(clips, hidden=True), strict=True):
        assert a.hidden.shape == (len(a.times), ours.model.config.encoder_config.d_model)
        np.testing.assert_allclose(a.hidden, b.hidden, rtol=0, atol=1e-4)
    with torch.inference_mode():
        own, _ = ours.model.encode(*ours.model.collate(clips[1:2]))
    np.testing.assert_allclose(
        ours.predict(clips[1:2], hidden=True)[0].hidden, own[0].numpy(), rtol=0, atol=1e-6
    )
    assert theirs.predict(clips)[0].hidden is None


def test_both_engines_encode_and_predict_windows_alike(folders):
    ours, theirs = (open_engine(folder) for folder in folders)
    clips = [tiny_models.clip(n, seed=n) for n in (400, 8000, 3333)]
    for reach in (2, 99):
        pair = ours.encode(clips, reach=reach), theirs.encode(clips, reach=reach)
        for a, b in zip(*pair, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
    windows = np.array([[0, 25], [3, 9], [24, 25]])
    ((a,), (b,)) = (one.predict_windows([(pair[0][1], windows)]) for one in (ours, theirs))
    for name in ("intensities", "vad", "frame_vad"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=1e-5)
    assert a.frame_vad.shape == (25, 3)
    np.testing.assert_allclose(a.vad[1], a.frame_vad[3:9].mean(axis=0), rtol=0, atol=1e-5)
    (clip,) = theirs.predict(clips[1:2])
    np.testing.assert_allclose(b.intensities[0], clip.intensities, rtol=0, atol=1e-5)


@pytest.mark.parametrize("output", ["hidden", "pooled"])
def test_a_graph_without_an_output_is_refused(copy, output):
    file = copy / ("encoder.onnx" if output == "hidden" else "head.onnx")
    graph = onnx.load(file)
    kept = [one for one in graph.graph.output if one.name != output]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    onnx.save(graph, file)
    rehash(copy)
    with pytest.raises(ModelError, match=f"has no output {output}; export the folder again"):
        GraphEngine(copy)


def test_a_stored_prediction_holds_no_batch(folders):
    for one in GraphEngine(folders[1]).predict([tiny_models.clip(400), tiny_models.clip(800)]):
        assert one.intensities.base is None
        assert one.vad.base is None


@pytest.mark.parametrize("samples", [399, 8001])
def test_clips_that_do_not_fit(folders, samples):
    with pytest.raises(ModelError, match=f"{samples} samples; .*engine takes 400 to 8000"):
        GraphEngine(folders[1]).predict([tiny_models.clip(500), tiny_models.clip(samples)])


def test_vad_that_was_never_learned_is_not_predicted(tmp_path):
    tiny_models.model("whisper", do_normalize=False, max_seconds=0.5).save_pretrained(tmp_path / "run")
    export.export(tmp_path / "run", tmp_path / "engine")
    for folder in ("run", "engine"):
        actual = open_engine(tmp_path / folder)
        assert not actual.spec.vad
        assert actual.predict([tiny_models.clip(500)])[0].vad is None


@pytest.mark.parametrize("options", [{"threads": "2"}, {"threads": 0}, {"threads": 1.5}, {"streams": True}])
def test_numbers_that_are_none_are_named(folders, options):
    with pytest.raises(ModelError, match=f"{next(iter(options))} is .*, expected a whole number"):
        open_engine(folders[1], **options)


def test_threads(folders):
    assert cpus.count_cores() >= 1
    clip = [tiny_models.clip(5000)]
    one, two = (open_engine(folders[1], threads=n).predict(clip)[0] for n in (1, 2))
    np.testing.assert_allclose(one.intensities, two.intensities, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("cpus", "known"),
    [
        (["fpu avx2 avx512_vnni"], True),
        (["avx_vnni", "sse avx_vnni"], True),
        (["avx_vnni", "sse avx2"], False),
        (["avx2 avx512f"], False),
        ([], False),
        (None, False),
    ],
)
def test_cpus_that_sum_8_bit_products_in_32(monkeypatch, tmp_path, cpus, known):
    file = tmp_path / "cpuinfo"
    if cpus is not None:
        file.write_text("".join(f"processor\t: {i}\nflags\t\t: {one}\n\n" for i, one in enumerate(cpus)))
    monkeypatch.setattr(runtimes, "Path", lambda name: file)
    assert runtimes._has_vnni() is known


# Folders that can't be used


def test_no_model_there(tmp_path):
    with pytest.raises(ModelError, match=r"there is no folder .*nowhere; expected one written by"):
        open_engine(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"neither engine.json .* nor config.json"):
        open_engine(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="file is a file; give the folder"):
        open_engine(tmp_path / "file")


def test_an_exported_model_knows_only_the_cpu(folders):
    assert open_engine(folders[1], device="cpu").spec.targets
    with pytest.raises(ModelError, match="runs on the cpu; found device 'cuda'"):
        open_engine(folders[1], device="cuda")


def test_a_missing_graph(copy):
    (copy / "head.onnx").unlink()
    with pytest.raises(ModelError, match=r"engine has no head.onnx; the folder is incomplete"):
        open_engine(copy)


def test_a_changed_graph(copy):
    with (copy / "head.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match=r"head.onnx is not the file its engine.json describes \(sha256"):
        open_engine(copy)


def test_a_truncated_graph(copy):
    whole = (copy / "head.onnx").read_bytes()
    for size in (0, 100, len(whole) // 2):
        (copy / "head.onnx").write_bytes(whole[:size])
        rehash(copy)
        with pytest.raises(ModelError, match=r"head.onnx can't be opened: "):
            open_engine(copy)


@pytest.mark.parametrize("schema", ["emimic/engine/2", None, 1])
def test_another_schema(copy, schema):
    change(copy, schema=schema)
    with pytest.raises(ModelError, match=r"schema .*, this emimic reads 'emimic/engine/1'"):
        open_engine(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\xff"])
def test_a_description_that_is_none(copy, text):
    (copy / "engine.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"engine\.json (can't be read as JSON|has the schema None)"):
        open_engine(copy)


@pytest.mark.parametrize(
    "spec",
    [None, {}, [], {"targets": 3}, "x"],
)
def test_a_description_without_a_spec(copy, spec):
    change(copy, spec=spec)
    with pytest.raises(ModelError, match=r"engine.json has no valid spec of the model"):
        open_engine(copy)


@pytest.mark.parametrize(
    "wrong", [{"hop": 0}, {"max_seconds": -1.0}, {"targets": [1]}, {"min_samples": "many"}]
)
def test_a_spec_that_can_not_be(copy, wrong):
    change(copy, spec={**json.loads((copy / "engine.json").read_text())["spec"], **wrong})
    with pytest.raises(ModelError, match=r"engine\.json (has an impossible spec|has no valid spec)"):
        open_engine(copy)


def test_a_graph_of_something_else(copy):
    graph = onnx.load(copy / "head.onnx")
    del graph.graph.output[0]
    onnx.save(graph, copy / "head.onnx")
    rehash(copy)
    with pytest.raises(ModelError, match=r"head.onnx has no output intensities"):
        open_engine(copy)


def test_weights_that_are_nan(copy):
    graph = onnx.load(copy / "head.onnx")
    (bias,) = [one for one in graph.graph.initializer if one.name.endswith("head.out_proj.bias")]
    bias.CopyFrom(numpy_helper.from_array(np.full(6, np.nan, np.float32), bias.name))
    onnx.save(graph, copy / "head.onnx")
    rehash(copy)
    with pytest.raises(ModelError, match="engine predicts NaN or infinity: its weights are damaged"):
        open_engine(copy).predict([tiny_models.clip(500)])


def test_the_check_notices_another_prediction(copy):
    assert GraphEngine(copy).check() <= 1e-6
    checks = json.loads((copy / "engine.json").read_text())["checks"]
    checks["clips"][1]["intensities"][0] += 0.01
    change(copy, checks=checks)
    with pytest.raises(
        ModelError, match=r"predicts its check clips with a difference of 0.01 .* \(at most 0.0001\)"
    ):
        GraphEngine(copy).check()


def test_the_package_without_a_model(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "DEFAULT", tmp_path)
    with pytest.raises(ModelError, match=r"carries no model .*: give one with --model"):
        engine.find_default_model()
    (tmp_path / "engine.json").write_text("{}")
    assert engine.find_default_model() == tmp_path


def test_an_exported_model_needs_no_torch(folders):
    code = f"""
import sys
import numpy as np
from emimic.inference.engine import open_engine
found = open_engine({str(folders[1])!r}).predict([np.zeros(4000, np.float32)])
assert found[0].intensities.shape == (6,)
print(sorted({{"torch", "transformers", "onnx", "scipy", "pandas", "matplotlib"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_predicting_an_mp3_imports_nothing_slow():
    code = """
import sys
from importlib.resources import files
from emimic.cli import app
app(["predict", str(files("emimic") / "sample" / "audio" / "00003.mp3"), "-q"], standalone_mode=False)
print(sorted({"torch", "av", "urllib.request"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_run_without_torch_says_what_to_install(folders):
    code = f"""
import sys
sys.modules["torch"] = None
from emimic.inference.engine import open_engine
from emimic.task import ModelError
try:
    open_engine({str(folders[0])!r})
except ModelError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "is a training run, which needs torch" in done.stdout
    assert "[train]'" in done.stdout
