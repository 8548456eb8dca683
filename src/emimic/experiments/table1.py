"""Rows of the paper's Table 1 and of later challenge results: every baseline, and the paper's own models."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emimic.baselines.system import NAMES, System, get_system
from emimic.experiments import vision_rows
from emimic.experiments.jobs import Row
from emimic.experiments.results_table import Outcome
from emimic.experiments.run import Request, compare, parse_encoders
from emimic.features import store
from emimic.task import SettingsError
from emimic.training.settings import TrainSettings

OURS: Final = "ours"
GROUPS: Final = {
    "table1": "Table 1",
    "record": "Later challenge results",
    "audio": "The same on audio alone",
}
TABLE1: Final = ("baseline", "savchenko", "yu", "zhang", "vision_lstm")
VISION: Final = "ours-vision-expression"
"""Row whose image encoder `--encoder` replaces; `ours-vision-audio` has the same."""

LONGER: Final = 2
"""Factor on the epochs for "longer training": the paper doesn't publish it."""

SINGLE: Final[dict[tuple[str, str], dict[str, float | None]]] = {
    ("baseline", "vision"): {"valid": None, "test": 0.090},
    ("baseline", "audio"): {"valid": None, "test": 0.240},
}
"""Published figures of one modality of a baseline alone."""

SINGLE_ROWS: Final = {**dict.fromkeys(SINGLE), ("vision_lstm", "vision"): None}
"""Baselines and the modality that has a row alone."""

NOTES: Final = {
    "savchenko": "its multi-task face network isn't included: emimic features --kind face-descriptors has one of seven "
    "expressions in its place, unless --model names another",
    "savchenko-audio": ".236 is published of voice alone, on which split isn't said",
    "vision_lstm": "not the paper's row of .198, which is fine-tuned (ours-vision-audio)",
    "vision_lstm-vision": "not the paper's row of .013, which is fine-tuned (ours-vision-expression)",
    "semantic_matters": "the .522 is inferred from the challenge's results, the .706 is published",
    "text_anchored": "sizes, layers and training are chosen here: only the idea and the figure on test are published",
    "wavlm_tcn": "the .417 is of one participant's notebooks, of one seed, unreviewed",
}
"""Notes on a row's published figure, or on its absence."""

FACES: Final = ("--kind face-descriptors --model NETWORK.onnx",)
TEXT: Final = ("--kind transcripts --model WHISPER", "--kind text --model ENCODER")
BY_FOLDER: Final = {
    "vit": ("--kind challenge",),
    "wav2vec2": ("--kind challenge",),
    "face-descriptors": ("--kind faces", "--kind face-descriptors"),
    "text": TEXT,
}
"""Options of `emimic features` that make a feature folder, one command after another."""

BY_MODALITY: Final = {"audio": ("--kind speech --model ENCODER",), "text": TEXT}
"""The same for folders with other names; faces for all other modalities."""


def run_baselines(
    request: Request,
    modalities: Sequence[str] = (),
    encoders: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> Outcome:
    """Run the chosen rows, and write the tables of them and of all that have a score.

    Args:
        request: the options of the command.
        modalities: `MODALITY=NAME`: the feature folder that all baselines read for a modality.
        encoders: `wavlm_tcn=SOURCE`: another encoder of that baseline.
        log: is called with each message on the progress.

    Raises:
        EmimicError: if the request, the corpus or a run on disk can't be used.
        Stopped: on SIGTERM or Ctrl-C.
    """
    systems = {name: get_system(name) for name in NAMES}
    common = request.read_settings()
    folders = _parse_modalities(modalities)
    own = [name for name, system in systems.items() if "encoder" in system.settings]
    sources = parse_encoders(encoders, [*own, VISION])
    for name in sources.keys() & set(own):
        if store.WAVEFORM not in (inputs := _get_inputs(systems[name], folders)).values():
            raise SettingsError(
                f"--encoder {name} would have no effect: {name} reads features ({', '.join(inputs.values())}), not the "
                f"clips. Leave it out, or have the clips read (--modality audio={store.WAVEFORM})"
            )
    rows = list_rows(request, common, folders, sources)
    return compare(request, rows, OURS, GROUPS, {}, log, source="published")


def _get_inputs(system: System, folders: Mapping[str, str]) -> dict[str, str]:
    """Return the feature folder that a baseline reads, by modality."""
    return {modality: folders.get(modality, name) for modality, name in system.modalities.items()}


def list_rows(
    request: Request,
    common: TrainSettings,
    folders: Mapping[str, str],
    encoders: Mapping[str, dict[str, Any]],
) -> tuple[Row, ...]:
    """Return every row, the baselines first.

    Args:
        request: the options of the command.
        common: the user's settings of all rows.
        folders: modality -> feature folder in place of a baseline's own.
        encoders: encoder settings of baselines that read the clips themselves, in place of their own.
    """
    baselines = []
    for name in NAMES:
        system, group = get_system(name), "table1" if name in TABLE1 else "record"
        everything = tuple(system.modalities)
        tables: dict[tuple[str, ...], tuple[str, ...]] = {
            (modality,): (group, "audio") if modality == "audio" else (group,)
            for owner, modality in SINGLE_ROWS
            if owner == name
        }
        if name != "vision_lstm":  # the paper's own rows on audio follow below
            tables.setdefault(("audio",), ("audio",))
        tables[everything] = (group, *tables.get(everything, ()))
        baselines += [
            _make_row(request, name, used, groups, folders, encoders.get(name, {}))
            for used, groups in tables.items()
        ]
    vision = encoders.get(VISION, {"encoder": vision_rows.ENCODERS["vision-expression"]})
    base = vision_rows.get_base(common.vision)
    own = vision_rows.list_own_rows(("table1",), vision, base, prefix="ours-")
    return (*baselines, *own, *_list_own_rows(request, common))


def _list_own_rows(request: Request, common: TrainSettings) -> list[Row]:
    both = {"train_on": "train+valid"}
    reason = "it learns from valid, too: score another split (--split test) or, without its labels, train and submit it"
    unavailable = reason if request.split == "valid" else ""
    return [
        # The same run as the row `frozen` of `emimic ablate`: only a later row of the paper's table has dropout.
        Row(
            "ours-frozen", "the paper's, encoder frozen", ("table1", "audio"), {"freeze_encoder": True}, 0.262,
            defaults={"lstm_dropout": 0.0},
        ),
        Row("ours-plain", "the paper's, no LSTM dropout", ("table1", "audio"), {"lstm_dropout": 0.0}, 0.386, 0.461),
        Row(OURS, "the paper's, LSTM dropout 0.1", tuple(GROUPS), {"lstm_dropout": 0.1}, 0.389, 0.465),
        Row("ours-train+valid", "the paper's, train+valid", ("table1",), both, None, 0.522, unavailable=unavailable),
        Row(
            "ours-longer", f"the paper's, train+valid, {LONGER} x the epochs", ("table1",),
            {**both, "epochs": LONGER * common.epochs}, None, 0.554, unavailable=unavailable,
        ),
    ]  # fmt: skip


def _make_row(
    request: Request,
    baseline: str,
    used: tuple[str, ...],
    groups: tuple[str, ...],
    folders: Mapping[str, str],
    encoder: Mapping[str, Any],
) -> Row:
    """Return the row of a baseline with the modalities `used`."""
    system = get_system(baseline)
    complete = used == tuple(system.modalities)
    modalities = {
        modality: name for modality, name in _get_inputs(system, folders).items() if modality in used
    }
    published = (
        system.published if complete else SINGLE.get((baseline, used[0]), {"valid": None, "test": None})
    )
    settings = {"encoder": None}
    if store.WAVEFORM in modalities.values():
        settings = dict(encoder) or {"encoder": system.settings.get("encoder")}
    label = system.title if complete else f"{system.title}, {used[0]}"
    row = baseline if complete else f"{baseline}-{used[0]}"
    notes = [NOTES[row]] if row in NOTES else []
    notes += [
        _explain_replacement(modality, name, system)
        for modality, name in modalities.items()
        if name != system.modalities[modality]
    ]
    return Row(
        name=row,
        label=label,
        groups=groups,
        settings={"baseline": baseline, "modalities": modalities, "freeze_encoder": False, **settings},
        defaults={key: value for key, value in system.settings.items() if key != "encoder"},
        published=published["valid"],
        published_test=published["test"],
        unavailable=_explain_missing(request.folder, modalities),
        unsure=system.unsure,
        note=f"{label}: {'; '.join(notes)}." if notes else "",
    )


def _explain_replacement(modality: str, folder: str, system: System) -> str:
    """Return a note on what a row reads in place of the baseline's own features."""
    own = system.modalities[modality]
    if own == store.WAVEFORM:
        return f"{modality} is {store.FOLDER}/{folder}, as it is, not the clips through an encoder that is trained, too"
    source = "the clips themselves" if folder == store.WAVEFORM else f"{store.FOLDER}/{folder}"
    return f"{modality} is {source}, not {store.FOLDER}/{own}"


def _explain_missing(folder: Path, modalities: Mapping[str, str]) -> str:
    """Return a sentence on the missing features, with the commands that make them; empty if none are missing."""
    missing = []
    for modality, name in modalities.items():
        if name == store.WAVEFORM or (folder / store.FOLDER / name).is_dir():
            continue
        *first, last = BY_FOLDER.get(name) or BY_MODALITY.get(modality, FACES)
        options = [*first, last if name in BY_FOLDER else f"{last} --name {name}"]
        commands = "; then ".join(f"emimic features {shlex.quote(folder.name)} {words}" for words in options)
        missing.append(f"{store.FOLDER}/{name} isn't there: {commands}")
    return "; ".join(missing)


def _parse_modalities(pairs: Sequence[str]) -> dict[str, str]:
    modalities = dict.fromkeys(modality for name in NAMES for modality in get_system(name).modalities)
    folders = {}
    for pair in pairs:
        modality, _, name = pair.partition("=")
        if modality not in modalities or not name:
            raise SettingsError(
                f"--modality takes MODALITY=NAME with a modality of {', '.join(modalities)}; found {pair!r}"
            )
        folders[modality] = name
    return folders
