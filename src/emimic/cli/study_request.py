"""The work of `emimic mimicry --study`: predict every voice of a table of sessions, analyze, write tables and plots."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emimic import progress
from emimic.cli import predict_request
from emimic.cpus import count_cores
from emimic.files import make_folder, make_printable
from emimic.inference.engine import check_model
from emimic.inference.predictor import Predictor
from emimic.inference.recording import Channel, Recording, split_recording
from emimic.inference.results import Failure, Result
from emimic.media import decode
from emimic.mimicry.crosstalk import WINDOW, find_crosstalk, split_windows
from emimic.mimicry.measures import NAMES
from emimic.mimicry.results import MEANING, MimicryError, Settings
from emimic.mimicry.study import Session, Study, analyze
from emimic.mimicry.study.analysis import SEGMENT, count_steps
from emimic.mimicry.study.folder import StudyFolder
from emimic.mimicry.study.page import make_page
from emimic.mimicry.study.results import BY_NAME, Failed, Voices, describe_contrast, format_value, list_groups
from emimic.mimicry.study.rmea import list_dyads, make_dyad_csv, make_name
from emimic.mimicry.study.session import Row, read_rows
from emimic.mimicry.study.tables import make_contrasts_csv, make_groups_csv, make_sessions_csv
from emimic.output import write
from emimic.output.formats.names import make_safe, make_unique
from emimic.output.html_page import NOTICE
from emimic.task import AudioError
from emimic.wording import pluralize


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `emimic mimicry --study`.

    table: the table of sessions. out: a folder for files and the journal. segment: seconds of SUSY's segments. ray: the
    address of a cluster. fresh: discard stored timelines. rmea: also write each dyad for rMEA.
    """

    table: Path
    out: Path
    settings: Settings = field(default_factory=lambda: Settings(alignment="windowed"))
    segment: float = SEGMENT
    model: Path | None = None
    device: str | None = None
    threads: int | None = None
    progress: bool = False
    ray: str | None = None
    fresh: bool = False
    rmea: bool = False


def run(request: Request, log: Callable[[str], object]) -> Study:
    """Predict, analyze, write files and print; `log` gets lines about what happened.

    A session with an unreadable recording is skipped and reported. Timelines are stored in the journal of the folder
    as they are predicted, so an interrupted run is resumed by the same command.

    Raises:
        EmimicError: An invalid table, an unusable model or folder, or fewer than two sessions with timelines.
    """
    if request.out.exists() and not request.out.is_dir():
        raise MimicryError(f"--out {request.out} is a file; name a folder")
    rows = read_rows(request.table)
    if request.model is not None:
        check_model(request.model)
    make_folder(request.out)
    unavailable = write.find_missing((), plot=True)
    for reason in unavailable.values():
        log(f"emimic: {reason}; they are not written")
    recordings = [list_recordings(row) for row in rows]
    outcomes = _predict(request, list(dict.fromkeys(one for row in recordings for one in row)), log)
    sessions, failed = _make_sessions(request, rows, recordings, outcomes)
    with progress.make_counting_bar(unit="columns/s", show=request.progress) as bar:
        task = bar.add_task("comparing", total=count_steps(sessions))
        study = analyze(
            sessions, settings=request.settings, segment=request.segment, failed=failed,
            on_progress=lambda: bar.update(task, advance=1),
        )  # fmt: skip
    try:  # files first: printing can fail
        folder = StudyFolder(request.out)
        write_study(study, folder, plots=not unavailable, show_progress=request.progress)
        if request.rmea:
            write_dyads(sessions, folder)
        if removed := folder.remove_others():
            log(f"emimic: removed {pluralize(len(removed), 'file')} of an earlier run, not written again")
        log(f"files are in {request.out}")
    finally:
        show(study)
    for line in (*study.notes, *(f"{one.id}: {note}" for one in study.sessions for note in one.notes)):
        log(f"emimic: {line}")
    for one in study.failed:
        log(f"emimic: session {one.id} is left out: {one.reason}")
    return study


def list_recordings(row: Row) -> tuple[Recording, ...]:
    """Return the recordings of a session's voices, in order."""
    if row.channels is None:
        return tuple(recording for file in row.files for recording in _list_channels(file))
    if row.channels:
        files = row.files * len(row.channels) if len(row.files) == 1 else row.files
        return tuple(Channel(file, number) for file, number in zip(files, row.channels, strict=False))
    if len(row.files) == 1:
        return tuple(Channel(row.files[0], number) for number in (1, 2))
    return row.files


def _list_channels(file: Path) -> Iterator[Recording]:
    count = decode.count_channels(file)
    if count < 2:
        yield file
    else:
        yield from (Channel(file, number) for number in range(1, count + 1))


def _predict(
    request: Request, recordings: Sequence[Recording], log: Callable[[str], object]
) -> dict[Recording, Result | Failure]:
    """Return each recording's result with its timeline, as `emimic predict --timeline` does; resumable."""
    threads = count_cores() if request.threads is None else request.threads
    wanted = predict_request.Request(
        files=(), timeline=True, model=request.model, out=request.out, device=request.device, threads=threads,
        progress=request.progress, ray=request.ray, fresh=request.fresh,
    )  # fmt: skip
    if request.ray is not None:
        predict_request.check_ray(wanted, request.ray)
    predictor = Predictor(request.model, device=request.device, threads=threads, streams=threads)
    with ExitStack() as stack:
        journal = stack.enter_context(predict_request.open_journal(predictor, wanted, request.out, log))
        outcomes, tally = predict_request.predict_recordings(predictor, wanted, recordings, journal)
    log(tally.summarize(sum(isinstance(outcome, Failure) for outcome in outcomes)))
    return dict(zip(recordings, outcomes, strict=True))


def _make_sessions(
    request: Request,
    rows: Sequence[Row],
    recordings: Sequence[tuple[Recording, ...]],
    outcomes: dict[Recording, Result | Failure],
) -> tuple[list[Session], list[Failed]]:
    """Return the sessions whose voices all have timelines, with warnings about their sound, and the others."""
    sessions: list[Session] = []
    failed: list[Failed] = []
    pairs = zip(rows, recordings, strict=True)
    for row, voices in progress.show_progress(pairs, "crosstalk", total=len(rows), show=request.progress):
        results = [outcomes[voice] for voice in voices]
        reasons = [result.reason for result in results if isinstance(result, Failure)]
        timelines = [result.timeline for result in results if isinstance(result, Result) and result.timeline]
        try:
            if reasons:
                raise MimicryError("; ".join(dict.fromkeys(reasons)))
            session = Session.from_timelines(row.id, timelines, group=row.group, roles=row.roles)
            notes = _find_notes(session, voices, min(timeline.seconds for timeline in timelines))
            sessions.append(replace(session, notes=tuple(notes)))
        except (MimicryError, AudioError) as error:
            failed.append(Failed(row.id, str(error).removeprefix(f"{row.id}: ")))
    return sessions, failed


def _find_notes(session: Session, voices: Sequence[Recording], seconds: float) -> Iterator[str]:
    """Yield warnings about crosstalk and drift between the voices of a session."""
    for (first, second), names in zip(combinations(voices, 2), combinations(session.roles, 2), strict=True):
        windows = split_windows(_read_blocks(first), _read_blocks(second), seconds)
        for note in find_crosstalk(windows, seconds).describe():
            yield f"{' and '.join(names)}: {note}"


def _read_blocks(recording: Recording) -> Iterator["decode.Wave"]:
    path, number = split_recording(recording)
    channel = None if number is None else number - 1
    return decode.load_blocks(path, seconds=WINDOW, channel=channel, notes=[])


def write_study(
    study: Study, folder: StudyFolder, *, plots: bool = True, show_progress: bool = False
) -> None:
    """Write study.csv, groups.csv, contrasts.csv, study.json, study.html and, with `plots`, PNGs into a folder."""
    folder.write("study.csv", make_sessions_csv(study))
    folder.write("groups.csv", make_groups_csv(study))
    folder.write("contrasts.csv", make_contrasts_csv(study))
    text = json.dumps(study.to_dict(), allow_nan=False, ensure_ascii=False)
    folder.write("study.json", text + "\n")
    drawn = dict(_draw(study, show_progress)) if plots else {}
    taken = make_unique([make_safe(name, 100) for _, name in drawn], taken=())
    for (key, _), name in zip(drawn, taken, strict=True):
        folder.write(f"{name}.png", drawn[key, _])
    page = make_page(study, {key: image for (key, _), image in drawn.items()}, NOTICE)
    folder.write("study.html", page)


def write_dyads(sessions: Sequence[Session], folder: StudyFolder) -> None:
    """Write a table per pair of voices for rMEA into `rmea`, in a folder per pair of roles if there are several."""
    dyads = list(list_dyads(sessions))
    pairs = dict.fromkeys(roles for roles, _ in dyads)
    for roles in pairs:
        place = "rmea" if len(pairs) == 1 else f"rmea/{make_safe(' and '.join(roles))}"
        members = [session for other, session in dyads if other == roles]
        # Safe and short parts: in a name cut or changed as a whole, rMEA would find no group, or two names be one.
        unique = make_unique(make_safe(session.id, 80).replace("_", "-") for session in members)
        for session, dyad in zip(members, unique, strict=True):
            name = make_name(dyad, session.group and make_safe(session.group, 60))
            folder.write(f"{place}/{name}.csv", make_dyad_csv(session, roles))


def _draw(study: Study, show_progress: bool) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Yield the page's key and the file's name of each plot, and its PNG."""
    from emimic.mimicry.study import plots

    dyads = [(number, voices) for number, voices in enumerate(study.voices) if voices.dyads is not None]
    if len(dyads) > 1:
        yield ("network", "network"), plots.draw_network(plots.list_edges(study))
    for number, voices in dyads:
        yield (f"lags {number}", f"{voices.name} lags"), plots.draw_lag_lines(study, voices)
        yield (
            (f"distribution {number}", f"{voices.name} distribution"),
            plots.draw_distribution(study, voices),
        )
    maps = [(number, voices, row) for number, voices in dyads for row in range(len(voices.sessions))]
    for number, voices, row in progress.show_progress(maps, "heat maps", total=len(maps), show=show_progress):
        name = voices.sessions[row]
        yield (f"{number} {name}", f"{name} {voices.name}"), plots.draw_heat_map(study, voices, row)


def show(study: Study) -> None:
    """Print a table of groups and contrasts for each pair of roles, and what the numbers mean."""
    console = Console()
    for voices in study.voices:
        table = _make_table(study, voices)
        needed = console.measure(table, options=console.options.update(width=1000)).maximum
        console.width = max(console.width, needed)  # lines that wrap lose nothing
        console.print(table)
        name = NAMES[0] if voices.dyads is not None else "rho"
        for first, second in voices.contrasts:
            test = {key: part[-1] for key, part in describe_contrast(voices, (first, second), name).items()}
            difference, z = (format_value(test[key], "+.3f") for key in ("difference", "difference_z"))
            line = f"{first or '-'} minus {second or '-'}, above pseudo-dyads: {difference}"
            line += f" ({z} in z)" * (BY_NAME[name].unit == "r")
            line += f", d {format_value(test['d'], '.2f')}, p {format_value(test['p'])}"
            console.print(escape(make_printable(line)), soft_wrap=True)
    console.print(MEANING, soft_wrap=True)


def _make_table(study: Study, voices: Voices) -> Table:
    """Return one row per group: the main measure, overall."""
    main = NAMES[0] if voices.dyads is not None else "rho"
    test = voices.tests[main]
    title = f"{voices.name}: {main}{' (r)' * (BY_NAME[main].unit == 'r')}"
    table = Table(title=escape(make_printable(title)), title_justify="left")
    table.add_column("Group", no_wrap=True)
    for name in ("Sessions", "Mean", "95 % interval", "Pseudo-dyads", "d", "p", "Beyond chance"):
        table.add_column(name, justify="right")
    beyond = test.p[:, -1] <= 1 - study.settings.level + 1e-12
    for group, name, fields in list_groups(voices):
        if name == main:
            rows = np.array([one == group or group not in voices.groups for one in voices.groups])
            mean, low, high, pseudo, p = (
                format_value(fields[key][-1]) for key in ("mean", "low", "high", "pseudo_mean", "p")
            )
            table.add_row(
                escape(make_printable(group or "all sessions")), str(int(fields["sessions"][-1])), mean,
                "-" if low == "-" else f"{low} to {high}", pseudo, format_value(fields["d"][-1], ".2f"), p,
                str(int(beyond[rows].sum())),
            )  # fmt: skip
    return table
