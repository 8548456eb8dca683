"""The report of `emimic doctor`: what is installed, whether it can predict, and if not, what to do."""

import os
import platform
import re
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from emimic.install import install
from emimic.task import EmimicError
from emimic.version import __version__

SCHEMA: Final = "emimic/doctor/1"

LAW: Final = (
    "In the EU, inferring emotions of people at work or in education is forbidden except for medical or safety "
    "reasons (AI Act, Art. 5(1)(f)); elsewhere such systems are high-risk and people must be informed (Art. 50(3))."
)

NEEDED: Final = ("numpy", "soundfile", "soxr", "av", "onnxruntime", "typer", "rich")
"""Packages of the base install; their modules have the same names."""

FOR_RUNS: Final = ("torch", "transformers", "safetensors")
"""Packages that predictions with a run folder need too."""

_INTEL_MAC: Final = (
    "its last version for a Mac with an Intel CPU is 1.23.2, for Python 3.11 to 3.13: "
    "pip install onnxruntime==1.23.2"
)
_VISUAL_C: Final = (
    "the Visual C++ runtime is missing or older than 14.38. "
    "Install https://aka.ms/vs/17/release/vc_redist.{}.exe"
)

HUB: Final = "https://huggingface.co"
TIMEOUT: Final = 5.0
"""Seconds to wait for the hub."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model that was opened and tried.

    folder: its folder's name. size: in bytes. engine: the runtime or library that runs it. targets: its intensities.
    vad: whether it predicts V/A/D. license: from its model card or LICENSE. sha256: of an exported model's graph, equal
    to the one in its description. difference: the largest difference between predictions for its check clips, here and
    at export; None for a run folder.
    """

    folder: str
    size: int
    engine: str
    targets: tuple[str, ...]
    vad: bool
    license: str
    sha256: str | None
    difference: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """The state of an installation.

    packages: versions, None for a missing one. extras: the missing packages of each. engines: kinds of model folders
    that can be used. threads: the default number. free_memory: in bytes, None where the system has no such number.
    model: None if it can't be used. hub: None unless requested. troubles: reasons why it can't predict, each with a
    remedy.
    """

    emimic: str
    python: str
    platform: str
    packages: dict[str, str | None]
    extras: dict[str, tuple[str, ...]]
    engines: tuple[str, ...]
    threads: int | None
    free_memory: int | None
    model: ModelState | None
    hub: str | None
    troubles: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON, with its schema and the legal notice."""
        return {"schema": SCHEMA, **asdict(self), "law": LAW}

    def to_text(self) -> str:
        """Return the report as a few lines of text."""
        extras = [
            f"{name} (missing {', '.join(missing)}: {install(name)})" if missing else f"{name} yes"
            for name, missing in self.extras.items()
        ]
        memory = "" if self.free_memory is None else f"; {self.free_memory / 1e9:.1f} GB of memory free"
        rows = [
            ("emimic", f"{self.emimic}, Python {self.python}, {self.platform}"),
            (
                "packages",
                ", ".join(f"{name} {version or 'missing'}" for name, version in self.packages.items()),
            ),
            ("extras", "; ".join(extras) or "unknown: emimic isn't installed by pip"),
            ("models", ", ".join(self.engines) or "none usable"),
            ("threads", f"{self.threads or 'unknown'}{memory}"),
            *_list_model_rows(self.model),
            ("hub", self.hub or "not checked (use --hub)"),
            ("law", LAW),
        ]
        lines = [f"{name:<11}{text}" for name, text in rows]
        lines += [f"trouble    {trouble}" for trouble in self.troubles]
        return "\n".join([*lines, "Not ready to predict." if self.troubles else "Ready to predict."])


def _list_model_rows(model: ModelState | None) -> list[tuple[str, str]]:
    """Return the report's rows about a model."""
    if model is None:
        return [("model", "none")]
    checked = ""
    if model.sha256 is not None:
        checked = f"; sha256 {model.sha256[:12]}... as described"
    if model.difference is not None:
        checked += f", predictions within {model.difference:.1g} of those at export"
    vad = ", and V/A/D" if model.vad else ""
    return [
        ("model", f"{model.folder}: {model.size / 1e6:.1f} MB, {model.engine}{checked}"),
        ("predicts", f"{', '.join(model.targets)}{vad}"),
        ("license", model.license),
    ]


def examine(model: str | os.PathLike[str] | None = None, *, hub: bool = False) -> Report:
    """Examine this installation and try a model; problems are in `troubles`, and none is raised.

    Args:
        model: a model folder; None: the model in the package.
        hub: also check whether the model hub is reachable; nothing else here uses the network.
    """
    troubles = [trouble for name in NEEDED if (trouble := _check_package(name))]
    threads, state = None, None
    packages = {name: _find_version(name) for name in (*NEEDED, *FOR_RUNS)}
    engines = [] if troubles else ["exported models (onnxruntime)"]
    if engines and all(packages[name] for name in FOR_RUNS):
        engines.append("run folders (torch)")
    if not troubles:
        # Imported here, since they import packages that may be missing.
        from emimic.cpus import count_cores
        from emimic.inference import engine, runtimes
        from emimic.media import silero_vad

        threads = count_cores()
        try:
            state = _try_model(Path(engine.find_default_model() if model is None else model))
            runtimes.open_runtime("onnx", silero_vad.MODEL)  # timelines need it
        except EmimicError as error:
            troubles.append(str(error))
    return Report(
        emimic=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        extras=_find_extras(),
        engines=tuple(engines),
        threads=threads,
        free_memory=_read_free_memory(),
        model=state,
        hub=_check_hub() if hub else None,
        troubles=tuple(troubles),
    )


def _find_version(name: str) -> str | None:
    """Return a package's version without importing it (torch would take seconds); None if it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _check_package(name: str) -> str | None:
    """Return what is wrong with a package of the base install; None if it can be imported."""
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        return f"{error.name} isn't installed: {_INTEL_MAC if _is_without_wheel(name) else f'pip install {name}'}"
    except (ImportError, OSError) as error:
        cure = f"pip install --force-reinstall {name}"
        if platform.system() == "Windows" and "DLL load failed" in str(error):
            cure = _VISUAL_C.format("arm64" if platform.machine() == "ARM64" else "x64")
        return f"{name} can't be loaded ({error}): {cure}"
    return None


def _is_without_wheel(name: str) -> bool:
    """Return True if a package's newest version has no wheel for this machine."""
    return name == "onnxruntime" and (platform.system(), platform.machine()) == ("Darwin", "x86_64")


def _find_extras() -> dict[str, tuple[str, ...]]:
    """Return the missing packages of each extra."""
    try:
        requirements = metadata.requires("emimic") or []
    except metadata.PackageNotFoundError:
        return {}
    extras: dict[str, tuple[str, ...]] = {}
    for line in requirements:
        extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if extra is None or name is None or extra[1] in ("all", "dev"):  # those repeat the others
            continue
        missing = () if _find_version(name[0]) else (name[0],)
        extras[extra[1]] = extras.get(extra[1], ()) + missing
    return extras


def _try_model(folder: Path) -> ModelState:
    """Open a model and predict its check clips.

    Raises:
        ModelError: the model can't be used.
    """
    from emimic.files import compute_sha256
    from emimic.inference.description import list_graphs
    from emimic.inference.engine import GraphEngine, open_engine
    from emimic.inference.runtimes import RUNTIMES

    engine = open_engine(folder)
    kind, digest, difference = "a run, on torch", None, None
    if isinstance(engine, GraphEngine):
        library = RUNTIMES[engine.runtime]
        kind = f"{engine.description.get('precision')} on {library.module}"
        difference = engine.check()
        digest = compute_sha256(engine.folder / list_graphs(engine.description, library.suffix)[0])
    return ModelState(
        folder=folder.resolve().name,
        size=sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        engine=kind,
        targets=engine.spec.targets,
        vad=engine.spec.vad,
        license=_read_license(folder),
        sha256=digest,
        difference=difference,
    )


def _read_license(folder: Path) -> str:
    """Return the card's `license:` line or its paragraph on licenses, else the first line of LICENSE."""
    sources = (
        ("README.md", r"^licen[sc]e: *(.+?)$"),
        ("README.md", r"^\*\*licen[sc]es?[.:]\*\* *(.+?)(?:\n\s*\n|\Z)"),
        ("LICENSE", r"(\S.*?)$"),
    )
    for name, pattern in sources:
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if match := re.search(pattern, text, re.MULTILINE | re.IGNORECASE | re.DOTALL):
            return " ".join(match[1].split())
    return "not stated; that of the encoder and of the corpus it was trained on"


def _read_free_memory() -> int | None:
    """Return the free memory in bytes; None where the system has no such number."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _check_hub() -> str:
    """Return whether the model hub is reachable, in words."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "not checked: offline is set (--offline or HF_HUB_OFFLINE)"
    url = os.environ.get("HF_ENDPOINT", HUB)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return f"{url} is reachable"
    except urllib.error.HTTPError as error:  # also a response
        return f"{url} is reachable (status {error.code})"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return (
            f"{url} can't be reached ({reason}); only `emimic train` needs it, unless encoder=FOLDER is given"
        )
