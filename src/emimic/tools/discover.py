"""A module folder for DISCOVER (Schiller et al. 2024), which wraps an exported model."""

import shutil
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from emimic.files import make_folder, write_atomically
from emimic.inference.description import read_description, read_spec
from emimic.inference.engine import DEFAULT, DESCRIPTION
from emimic.output.formats.nova import make_scheme_names
from emimic.task import VAD, ModelError
from emimic.version import __version__

SCRIPT: Final = "emimic_processor.py"
TRAINER: Final = "emimic.trainer"

_PROCESSOR: Final = Path(__file__).with_name("discover_processor.py")


def write_module(out: Path, model: Path | None = None) -> list[Path]:
    """Write a folder that DISCOVER loads as a module: a .trainer, a Processor class, requirements, and the model.

    Args:
        out: The folder, new or empty; its name is the module's.
        model: Folder of an exported model, which is copied; None: the model that emimic includes.

    Raises:
        ModelError: `model` is no exported model, or the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out}: found files, expected a new folder. Name another one, or empty it")
    source = DEFAULT if model is None else model
    if not (source / DESCRIPTION).is_file():
        raise ModelError(
            f"{source}: found no {DESCRIPTION}, expected an exported model. Write one with `emimic export`"
        )
    spec = read_spec(read_description(source), source / DESCRIPTION)
    names = make_scheme_names((*spec.targets, *(VAD if spec.vad else ())))
    make_folder(out)
    if model is not None:
        shutil.copytree(model, out / "model")
    write_atomically(out / SCRIPT, _PROCESSOR.read_bytes())
    write_atomically(out / "requirements.txt", f"emimic=={__version__}\nhcai-discover-utils\n")
    write_atomically(out / TRAINER, _make_trainer(names))
    return [out / TRAINER, out / SCRIPT, out / "requirements.txt"]


def _make_trainer(names: list[str]) -> str:
    """Return the XML that describes the module: audio in, an annotation per dimension and a stream out."""
    root = ElementTree.Element("trainer", {"ssi-v": "5"})
    ElementTree.SubElement(root, "info", {"trained": "true"})
    meta = ElementTree.SubElement(
        root,
        "meta",
        {
            "backend": "nova-server", "category": "Voice", "is_iterable": "False",
            "description": "Emotion intensities, arousal, dominance and valence of a voice, every 0.2 s (emimic)",
        },
    )  # fmt: skip
    io = [("input", "audio", "stream:Audio")]
    io += [("output", name, "annotation:Continuous") for name in names]
    io += [("output", "emimic", "stream:SSIStream:feature")]
    for kind, name, data in io:
        ElementTree.SubElement(meta, "io", {"type": kind, "id": name, "data": data, "default_value": name})
    options = "{hop:STRING:0.2};{channel:STRING:0}"
    ElementTree.SubElement(root, "model", {"create": "Emimic", "script": SCRIPT, "optstr": options})
    ElementTree.indent(root)
    return '<?xml version="1.0" ?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
