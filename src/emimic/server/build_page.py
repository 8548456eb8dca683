"""The page in the browser, built: static files, the model and ONNX Runtime's WebAssembly in one folder.

    python -m emimic.server.build_page --runtime node_modules/onnxruntime-web [--model FOLDER] [--out FOLDER]

`make page` takes onnxruntime-web from npm first. Any static host can serve the folder; it fetches nothing elsewhere.
"""

import argparse
import gzip
import html
import json
import re
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.calibration import ARRAYS, Calibration
from emimic.calibration import FILE as CALIBRATION
from emimic.files import make_folder, write_atomically
from emimic.inference.description import DESCRIPTION, check_files, list_graphs, read_description, read_spec
from emimic.inference.engine import find_default_model
from emimic.media import silero_vad
from emimic.output.html_page import NOTICE
from emimic.server.pages import BUILT, PACKED, POLICY
from emimic.task import ModelError
from emimic.version import __version__

_RUNTIME: Final = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_SHARED: Final = {"report.css": "html_page.css", "timeline_view.js": "timeline_view.js"}
_EMPTY: Final = {"names": "", "rows": "", "coarse": "", "seconds": "0"}
_NOVELTY: Final = ("shift", "scale", "basis", "means", "factors")


def build_page(out: Path, *, runtime: Path, model: Path | None = None) -> dict[str, int]:
    """Build the page in a folder, which is emptied first, and return its files' sizes in bytes by name.

    Args:
        out: The folder.
        runtime: The npm package onnxruntime-web, unpacked.
        model: An exported model for ONNX Runtime, of the voice alone; by default the one in the package.

    Raises:
        ModelError: The model or the runtime can't be used in a browser.
        OutputError: The folder can't be written.
    """
    model = model or find_default_model()
    description = read_description(model)
    _check(model, description, runtime)
    shutil.rmtree(out, ignore_errors=True)
    for folder in (out, out / "model", out / "ort"):
        make_folder(folder)
    for name in _RUNTIME:
        shutil.copyfile(runtime / "dist" / name, out / "ort" / name)
    shutil.copyfile(silero_vad.MODEL, out / "silero.onnx")
    _copy_licenses(model, out)
    novelty = _copy_model(model, description, out / "model")
    _copy_page(out)
    loaded = sorted(path for path in out.rglob("*") if path.suffix in (".onnx", ".bin", ".wasm", ".json"))
    sizes = {path.relative_to(out).as_posix(): path.stat().st_size for path in loaded}
    contents = {"emimic": __version__, "bytes": sizes, "novelty": novelty}
    write_atomically(out / "contents.json", json.dumps(contents, indent=1) + "\n")
    _compress(out)
    return {
        path.relative_to(out).as_posix(): path.stat().st_size
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def _check(model: Path, description: dict[str, Any], runtime: Path) -> None:
    spec = read_spec(description, model / DESCRIPTION)
    name = description.get("runtime")
    if name != "onnx" or spec.text or spec.vision or not spec.audio:
        kind = f"is for the runtime {name!r}" if name != "onnx" else "takes words or images"
        raise ModelError(
            f"{model}: {kind}, expected a model of the voice for ONNX Runtime. Give another (--model)."
        )
    check_files(model, description, full=True)
    for name in _RUNTIME:
        if not (runtime / "dist" / name).is_file():
            raise ModelError(
                f"{runtime}: found no dist/{name}, expected npm's onnxruntime-web. Run `make page`."
            )


def _copy_model(model: Path, description: dict[str, Any], out: Path) -> dict[str, list[int]] | None:
    """Copy a model's files; return the shapes of the arrays of its novelty score, None without one."""
    for name in list_graphs(description, ".onnx"):
        shutil.copyfile(model / name, out / name)
    used = {key: description[key] for key in ("schema", "runtime", "spec", "graphs") if key in description}
    write_atomically(out / DESCRIPTION, json.dumps(used) + "\n")
    if CALIBRATION not in description.get("files", {}):
        return None
    calibration = Calibration.load(model)
    shutil.copyfile(model / CALIBRATION, out / CALIBRATION)
    if calibration.novelty is None:
        return None
    arrays = {name: getattr(calibration.novelty, name) for name in _NOVELTY}
    joined = np.concatenate([array.ravel() for array in arrays.values()]).astype("<f4")
    write_atomically((out / ARRAYS).with_suffix(".bin"), joined.tobytes())
    return {name: list(array.shape) for name, array in arrays.items()}


def _compress(out: Path) -> None:
    """Write a compressed file beside each one, for servers that send it to browsers."""
    for path in [path for path in out.rglob("*") if path.is_file()]:
        packed = gzip.compress(path.read_bytes(), mtime=0)
        write_atomically(path.with_name(f"{path.name}{PACKED}"), packed)


def _copy_licenses(model: Path, out: Path) -> None:
    """Write the licenses of all parts; ONNX Runtime's files name their own."""
    if (model / "LICENSE").is_file():
        shutil.copyfile(model / "LICENSE", out / "model" / "LICENSE")
    silero = silero_vad.MODEL.with_name("LICENSE").read_text("utf-8")
    text = (
        f"emimic {__version__}: Apache-2.0. onnxruntime-web: MIT (Microsoft). The voice detector, silero-vad:"
    )
    write_atomically(out / "LICENSE", f"{text}\n\n{silero}")


def _copy_page(out: Path) -> None:
    """Write the page's own files, and those that it uses of the HTML report."""
    report = files("emimic.output")
    for source in files("emimic.server").joinpath("page").iterdir():
        if source.name.endswith((".js", ".css")):
            write_atomically(out / source.name, source.read_bytes())
    for name, source_name in _SHARED.items():
        write_atomically(out / name, report.joinpath(source_name).read_bytes())
    parts = {
        "version": html.escape(__version__),
        "policy": html.escape(POLICY),
        "notice": html.escape(NOTICE),
        **_EMPTY,
    }
    template = files("emimic.server").joinpath("page", "index.html").read_text("utf-8")
    template = template.replace("{{view}}", report.joinpath("timeline_view.html").read_text("utf-8").rstrip())
    page = re.sub(r"\{\{(\w+)\}\}", lambda placeholder: parts[placeholder[1]], template)
    write_atomically(out / "index.html", page)


def main() -> None:
    """Build the page by the arguments of the command line, and print its size."""
    parser = argparse.ArgumentParser(
        prog="python -m emimic.server.build_page", description="Build the page in the browser."
    )
    parser.add_argument("--runtime", type=Path, required=True, help="npm's onnxruntime-web, unpacked")
    parser.add_argument("--model", type=Path, help="an exported model; default: the one in the package")
    parser.add_argument("--out", type=Path, default=BUILT, help="the folder to write")
    given = parser.parse_args()
    sizes = build_page(given.out, runtime=given.runtime, model=given.model)
    print(f"{given.out}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB")  # noqa: T201


if __name__ == "__main__":
    main()
