"""The paper's Table 1 and the record since as cells of a grid: every compared system, and the paper's own rows."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emimic.study import store
from emimic.study.comparison import Request, compare, sources
from emimic.study.grid import Cell
from emimic.study.outcome import Outcome
from emimic.study.rivals.system import NAMES, WAVEFORM, System, system
from emimic.study.settings import TrainSettings
from emimic.task import SettingsError

OURS: Final = "ours"
GROUPS: Final = {
    "table1": "Table 1",
    "record": "The record since",
    "audio": "The same on audio alone",
}
TABLE1: Final = ("baseline", "savchenko", "yu", "zhang", "ours_vision")
LONGER: Final = 2
"""So many times the epochs are "longer training": the paper doesn't say how much longer."""

ALONE: Final[dict[tuple[str, str], dict[str, float | None]]] = {
    ("baseline", "vision"): {"valid": None, "test": 0.090},
    ("baseline", "audio"): {"valid": None, "test": 0.240},
    ("ours_vision", "vision"): {"valid": 0.013, "test": None},
}
"""Published of one role of a system alone."""

MADE_BY: Final = {
    "vit": "--kind challenge",
    "wav2vec2": "--kind challenge",
    "face-descriptors": "--kind face-descriptors --model NETWORK.onnx",
    "text": "--kind text --model ENCODER",
}
"""How `emimic features` makes a folder; others by the role they stand in."""

BY_ROLE: Final = {
    "audio": "--kind speech --model ENCODER",
    "text": "--kind text --model ENCODER",
}


def rivals(
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
    every = cells(request, given, _folders(modalities), sources(encoders, own))
    return compare(request, every, OURS, GROUPS, {}, tell)


def cells(
    request: Request,
    given: TrainSettings,
    folders: Mapping[str, str],
    encoders: Mapping[str, dict[str, Any]],
) -> tuple[Cell, ...]:
    """Every row. given: what the user set; folders: role -> feature folder in place of a system's own; encoders: of
    systems that hear the clips themselves, in place of theirs."""
    both = {"train_on": "train+valid"}
    unseen = (
        "" if request.split != "valid" else "it learns from valid, too: score another split (--split test)"
    )
    found = [
        Cell("ours-frozen", "the paper's, encoder frozen", ("table1", "audio"), {"freeze_encoder": True}, 0.262),
        Cell("ours-plain", "the paper's, no LSTM dropout", ("table1", "audio"), {"lstm_dropout": 0.0}, 0.386, 0.461),
        Cell(OURS, "paper's system", tuple(GROUPS), {"lstm_dropout": 0.1}, 0.389, 0.465),
        Cell("ours-train+valid", "the paper's, train+valid", ("table1",), both, None, 0.522, lacking=unseen),
        Cell(
            "ours-longer", f"the paper's, train+valid, {LONGER} x the epochs", ("table1",),
            {**both, "epochs": LONGER * given.epochs}, None, 0.554, lacking=unseen,
        ),
    ]  # fmt: skip
    theirs = []
    for name in NAMES:
        what, group = system(name), "table1" if name in TABLE1 else "record"
        every = tuple(what.modalities)
        rows: dict[tuple[str, ...], tuple[str, ...]] = {
            (role,): (group, "audio") if role == "audio" else (group,)
            for owner, role in ALONE
            if owner == name
        }
        if name != "ours_vision":  # the paper's own rows on audio follow below
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
    modalities = {role: folders.get(role, what.modalities[role]) for role in roles}
    published = what.published if whole else ALONE.get((name, roles[0]), {"valid": None, "test": None})
    heard = WAVEFORM in modalities.values()
    own = dict(encoder) or {"encoder": what.settings.get("encoder")} if heard else {"encoder": None}
    return Cell(
        name=name if whole else f"{name}-{roles[0]}",
        label=what.title if whole else f"{what.title.removesuffix(', vision + audio')}, {roles[0]}",
        groups=groups,
        settings={"rival": name, "modalities": modalities, "freeze_encoder": False, **own},
        beneath={key: value for key, value in what.settings.items() if key != "encoder"},
        published=published["valid"],
        published_test=published["test"],
        lacking=_lacking(request.folder, modalities),
    )


def _lacking(folder: Path, modalities: Mapping[str, str]) -> str:
    """Which features aren't there, with the commands that make them; nothing if all are."""
    missing = []
    for role, name in modalities.items():
        if name == WAVEFORM or (folder / store.FOLDER / name).is_dir():
            continue
        how = (
            MADE_BY.get(name)
            or f"{BY_ROLE.get(role, '--kind face-descriptors --model NETWORK.onnx')} --name {name}"
        )
        missing.append(f"{store.FOLDER}/{name} isn't there: emimic features {shlex.quote(folder.name)} {how}")
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
