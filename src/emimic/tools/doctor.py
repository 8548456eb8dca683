"""What is installed here, whether it can predict, and if not, what to do: the report of `emimic doctor`."""

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
    "reasons (AI Act, Art. 5(1)(f)); elsewhere such systems are high-risk and people must be told (Art. 50(3))."
)

NEEDED: Final = ("numpy", "soundfile", "soxr", "av", "onnxruntime", "typer", "rich")
"""What the base install brings, by the names of the packages and of their modules."""

FOR_RUNS: Final = ("torch", "transformers", "safetensors")
"""What a run folder needs to be heard with, beside those."""

HUB: Final = "https://huggingface.co"
PATIENCE: Final = 5.0
"""Seconds that the hub has to answer."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model that was opened and tried.

    folder: its folder's name. size: bytes. engine: what runs it. targets: its intensities. vad: whether it answers VAD.
    licence: as its card or LICENSE says. sha256: of an engine's graph, which is the one described. difference: the
    largest of its answers to its check clips from those written at export (within what it allows), None for a run.
    """

    folder: str
    size: int
    engine: str
    targets: tuple[str, ...]
    vad: bool
    licence: str
    sha256: str | None
    difference: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """The state of an installation.

    packages: versions of what predicting needs, None where it is missing. extras: for each, the packages it misses.
    engines: kinds of folder that can be heard with. threads: that would be taken. free_memory: bytes, None where the
    system doesn't say. model: None when it can't be used. hub: None unless asked. troubles: what keeps it from
    predicting, each with what to do.
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
        """JSON-ready, with its schema and the law's notice."""
        return {"schema": SCHEMA, **asdict(self), "law": LAW}

    def table(self) -> str:
        """The report in a few lines of text."""
        extras = [
            f"{name} (misses {', '.join(missing)}: {install(name)})" if missing else f"{name} yes"
            for name, missing in self.extras.items()
        ]
        memory = "" if self.free_memory is None else f"; {self.free_memory / 1e9:.1f} GB of memory free"
        rows = [
            ("emimic", f"{self.emimic}, Python {self.python}, {self.platform}"),
            ("packages", ", ".join(f"{name} {one or 'missing'}" for name, one in self.packages.items())),
            ("extras", "; ".join(extras) or "unknown: emimic isn't installed by pip"),
            ("hears with", ", ".join(self.engines) or "nothing"),
            ("threads", f"{self.threads or 'unknown'}{memory}"),
            *_model_rows(self.model),
            ("hub", self.hub or "not asked (--hub asks)"),
            ("law", LAW),
        ]
        lines = [f"{name:<11}{text}" for name, text in rows]
        lines += [f"trouble    {trouble}" for trouble in self.troubles]
        return "\n".join([*lines, "Not ready to predict." if self.troubles else "Ready to predict."])


def _model_rows(model: ModelState | None) -> list[tuple[str, str]]:
    if model is None:
        return [("model", "none")]
    checked = ""
    if model.sha256 is not None:
        checked = f"; sha256 {model.sha256[:12]}... as described"
    if model.difference is not None:
        checked += f", answers within {model.difference:.1g} of those at export"
    vad = ", and VAD" if model.vad else ""
    return [
        ("model", f"{model.folder}: {model.size / 1e6:.1f} MB, {model.engine}{checked}"),
        ("answers", f"{', '.join(model.targets)}{vad}"),
        ("licence", model.licence),
    ]


def examine(model: str | os.PathLike[str] | None = None, *, hub: bool = False) -> Report:
    """Look at this installation and try a model: the one in the package unless a folder is given.

    hub: also ask whether the model hub answers; nothing else here touches the network. Nothing is raised for what is
    broken: it stands in `troubles`.
    """
    troubles = [trouble for name in NEEDED if (trouble := _broken(name))]
    threads, state = None, None
    packages = {name: _version(name) for name in (*NEEDED, *FOR_RUNS)}
    engines = [] if troubles else ["engine folders (onnxruntime)"]
    if engines and all(packages[name] for name in FOR_RUNS):
        engines.append("run folders (torch)")
    if not troubles:
        # These import what may be missing.
        from emimic.cpus import cores
        from emimic.inference import engine, runtimes
        from emimic.media import silero_vad

        threads = cores()
        try:
            state = _try(Path(engine.find_default_model() if model is None else model))
            runtimes.open_runtime("onnx", silero_vad.MODEL)  # timelines need it
        except EmimicError as error:
            troubles.append(str(error))
    return Report(
        emimic=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        extras=_extras(),
        engines=tuple(engines),
        threads=threads,
        free_memory=_free_memory(),
        model=state,
        hub=_ask_hub() if hub else None,
        troubles=tuple(troubles),
    )


def _version(name: str) -> str | None:
    """Without importing it: torch would take seconds."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _broken(name: str) -> str | None:
    """What is wrong with a package of the base install."""
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        return f"{error.name} isn't installed: pip install {name}"
    except (ImportError, OSError) as error:
        return f"{name} can't be loaded ({error}): pip install --force-reinstall {name}"
    return None


def _extras() -> dict[str, tuple[str, ...]]:
    """Each extra of the installed package, and what it misses here."""
    try:
        wanted = metadata.requires("emimic") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in wanted:
        extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if extra is None or name is None or name[0] == "emimic" or extra[1] == "dev":
            continue  # "emimic": an extra that another one includes
        missing = () if _version(name[0]) else (name[0],)
        found[extra[1]] = found.get(extra[1], ()) + missing
    return found


def _try(folder: Path) -> ModelState:
    """Open a model and let it answer its check clips. Raises ModelError."""
    from emimic.files import sha256
    from emimic.inference.engine import GraphEngine, open_engine
    from emimic.inference.runtimes import RUNTIMES

    engine = open_engine(folder)
    kind, digest, difference = "a run, on torch", None, None
    if isinstance(engine, GraphEngine):
        kind = f"{engine.description.get('precision')} on {RUNTIMES[engine.runtime][0]}"
        difference = engine.check()
        digest = sha256(engine.folder / RUNTIMES[engine.runtime][1])
    return ModelState(
        folder=folder.resolve().name,
        size=sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        engine=kind,
        targets=engine.spec.targets,
        vad=engine.spec.vad,
        licence=_licence(folder),
        sha256=digest,
        difference=difference,
    )


def _licence(folder: Path) -> str:
    """The card's `license:` line or its paragraph on licences, else the first line of LICENSE."""
    looks = (
        ("README.md", r"^licen[sc]e: *(.+?)$"),
        ("README.md", r"^\*\*licen[sc]es?[.:]\*\* *(.+?)(?:\n\s*\n|\Z)"),
        ("LICENSE", r"(\S.*?)$"),
    )
    for name, pattern in looks:
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if found := re.search(pattern, text, re.MULTILINE | re.IGNORECASE | re.DOTALL):
            return " ".join(found[1].split())
    return "not stated; that of the encoder and of the corpus it was trained on"


def _free_memory() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _ask_hub() -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "not asked: offline is set (--offline or HF_HUB_OFFLINE)"
    url = os.environ.get("HF_ENDPOINT", HUB)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE):
            return f"{url} answers"
    except urllib.error.HTTPError as error:  # an answer, too
        return f"{url} answers (status {error.code})"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return (
            f"{url} can't be reached ({reason}); only `emimic train` needs it, unless encoder=FOLDER is given"
        )
