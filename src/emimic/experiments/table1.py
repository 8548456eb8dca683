"""The paper's Table 1 and the record since as cells of a grid: every compared system, and the paper's own rows."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emimic.baselines.system import NAMES, System, system
from emimic.experiments.jobs import Cell
from emimic.experiments.results_table import Outcome
from emimic.experiments.run import Request, compare, sources
from emimic.features import store
from emimic.task import SettingsError
from emimic.training.settings import TrainSettings

OURS: Final = "ours"
GROUPS: Final = {
    "table1": "Table 1",
    "record": "The record since",
    "audio": "The same on audio alone",
}
TABLE1: Final = ("baseline", "savchenko", "yu", "zhang", "vision_lstm")
LONGER: Final = 2
"""So many times the epochs are "longer training": the paper doesn't say how much longer."""

ALONE: Final[dict[tuple[str, str], dict[str, float | None]]] = {
    ("baseline", "vision"): {"valid": None, "test": 0.090},
    ("baseline", "audio"): {"valid": None, "test": 0.240},
}
"""Published of one role of a system alone."""

PARTS: Final = {**dict.fromkeys(ALONE), ("vision_lstm", "vision"): None}
"""Systems and the role that has a row alone."""

NOTES: Final = {
    "savchenko-audio": ".236 is published of voice alone, on which split isn't said",
    "vision_lstm": "not the paper's row; the paper has .198 on validation with faces and a voice that it fine-tuned",
    "vision_lstm-vision": "not the paper's row; the paper has .013 on validation with face models of its own",
    "concatenated_lstm": "not the first of ABAW 8 itself, which has .522 on validation (inferred) and .706 on test",
    "wavlm_tcn": "the .417 is of one participant's notebooks, of one seed, unreviewed",
}
"""What is to be known of a row's published figure, or of its having none."""

FACES: Final = ("--kind face-descriptors --model NETWORK.onnx",)
TEXT: Final = ("--kind transcripts --model WHISPER", "--kind text --model ENCODER")
MADE_BY: Final = {
    "vit": ("--kind challenge",),
    "wav2vec2": ("--kind challenge",),
    "face-descriptors": FACES,
    "text": TEXT,
}
"""How `emimic features` makes a folder, one command after another; others by the role they stand in."""

BY_ROLE: Final = {"audio": ("--kind speech --model ENCODER",), "text": TEXT}


def baselines(
    request: Request,
    modalities: Sequence[str] = (),
    encoders: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Run the rows asked for, and write what they and those that were run before came to.

    modalities: `ROLE=NAME`, the feature folder that systems read in a role. encoders: `wavlm_tcn=SOURCE`, another
    encoder beneath that system. Raises EmimicError, and Stopped as `grid.run`.
    """
    own = {name: system(name).settings["encoder"] for name in NAMES if "encoder" in system(name).settings}
    given = request.settings()
    folders, encoders_of = _folders(modalities), sources(encoders, own)
    for name in encoders_of:
        if store.WAVEFORM not in (read := _read(system(name), folders)).values():
            raise SettingsError(
                f"--encoder {name} would have no effect: {name} reads features ({', '.join(read.values())}), not the "
                f"clips. Leave it out, or have the clips read (--modality audio={store.WAVEFORM})"
            )
    every = cells(request, given, folders, encoders_of)
    return compare(request, every, OURS, GROUPS, {}, tell, whose="published")


def _read(what: System, folders: Mapping[str, str]) -> dict[str, str]:
    """Role -> the feature folder that a system reads."""
    return {role: folders.get(role, own) for role, own in what.modalities.items()}


def cells(
    request: Request,
    given: TrainSettings,
    folders: Mapping[str, str],
    encoders: Mapping[str, dict[str, Any]],
) -> tuple[Cell, ...]:
    """Every row. given: what the user set; folders: role -> feature folder in place of a system's own; encoders: of
    systems that hear the clips themselves, in place of theirs."""
    both = {"train_on": "train+valid"}
    unseen = "it learns from valid, too: score another split (--split test) or, without its labels, train and submit it"
    lacking = unseen if request.split == "valid" else ""
    found = [
        # The same run as the row `frozen` of `emimic ablate`: only a later row of the paper's table has dropout.
        Cell(
            "ours-frozen", "the paper's, encoder frozen", ("table1", "audio"), {"freeze_encoder": True}, 0.262,
            beneath={"lstm_dropout": 0.0},
        ),
        Cell("ours-plain", "the paper's, no LSTM dropout", ("table1", "audio"), {"lstm_dropout": 0.0}, 0.386, 0.461),
        Cell(OURS, "the paper's, LSTM dropout 0.1", tuple(GROUPS), {"lstm_dropout": 0.1}, 0.389, 0.465),
        Cell("ours-train+valid", "the paper's, train+valid", ("table1",), both, None, 0.522, lacking=lacking),
        Cell(
            "ours-longer", f"the paper's, train+valid, {LONGER} x the epochs", ("table1",),
            {**both, "epochs": LONGER * given.epochs}, None, 0.554, lacking=lacking,
        ),
    ]  # fmt: skip
    theirs = []
    for name in NAMES:
        what, group = system(name), "table1" if name in TABLE1 else "record"
        every = tuple(what.modalities)
        rows: dict[tuple[str, ...], tuple[str, ...]] = {
            (role,): (group, "audio") if role == "audio" else (group,)
            for owner, role in PARTS
            if owner == name
        }
        if name != "vision_lstm":  # the paper's own rows on audio follow below
            rows.setdefault(("audio",), ("audio",))
        rows[every] = (group, *rows.get(every, ()))
        theirs += [
            _cell(request, name, what, roles, groups, folders, encoders.get(name, {}))
            for roles, groups in rows.items()
        ]
    return (*theirs, *found)


def _cell(
    request: Request,
    name: str,
    what: System,
    roles: tuple[str, ...],
    groups: tuple[str, ...],
    folders: Mapping[str, str],
    encoder: Mapping[str, Any],
) -> Cell:
    whole = roles == tuple(what.modalities)
    modalities = {role: name for role, name in _read(what, folders).items() if role in roles}
    published = what.published if whole else ALONE.get((name, roles[0]), {"valid": None, "test": None})
    heard = store.WAVEFORM in modalities.values()
    own = dict(encoder) or {"encoder": what.settings.get("encoder")} if heard else {"encoder": None}
    title = what.title.replace("Ours", "the paper's")
    label = title if whole else f"{title.removesuffix(', vision + audio')}, {roles[0]}"
    row = name if whole else f"{name}-{roles[0]}"
    notes = [NOTES[row]] if row in NOTES else []
    notes += [
        _instead(role, read, what) for role, read in modalities.items() if read != what.modalities[role]
    ]
    return Cell(
        name=row,
        label=label,
        groups=groups,
        settings={"baseline": name, "modalities": modalities, "freeze_encoder": False, **own},
        beneath={key: value for key, value in what.settings.items() if key != "encoder"},
        published=published["valid"],
        published_test=published["test"],
        lacking=_lacking(request.folder, modalities),
        unsure=what.unsure,
        note=f"{label}: {'; '.join(notes)}." if notes else "",
    )


def _instead(role: str, read: str, what: System) -> str:
    """What a row reads in a role in place of the system's own."""
    own = what.modalities[role]
    if own == store.WAVEFORM:
        return f"{role} is {store.FOLDER}/{read}, as it is, not the clips through an encoder that is trained, too"
    here = "the clips themselves" if read == store.WAVEFORM else f"{store.FOLDER}/{read}"
    return f"{role} is {here}, not {store.FOLDER}/{own}"


def _lacking(folder: Path, modalities: Mapping[str, str]) -> str:
    """Which features aren't there, with the commands that make them; nothing if all are."""
    missing = []
    for role, name in modalities.items():
        if name == store.WAVEFORM or (folder / store.FOLDER / name).is_dir():
            continue
        *before, last = MADE_BY.get(name) or BY_ROLE.get(role, FACES)
        how = [*before, last if name in MADE_BY else f"{last} --name {name}"]
        commands = "; then ".join(f"emimic features {shlex.quote(folder.name)} {words}" for words in how)
        missing.append(f"{store.FOLDER}/{name} isn't there: {commands}")
    return "; ".join(missing)


def _folders(pairs: Sequence[str]) -> dict[str, str]:
    known = dict.fromkeys(role for name in NAMES for role in system(name).modalities)
    found = {}
    for pair in pairs:
        role, _, name = pair.partition("=")
        if role not in known or not name:
            raise SettingsError(
                f"--modality takes ROLE=NAME with a role of {', '.join(known)}; found {pair!r}"
            )
        found[role] = name
    return found
