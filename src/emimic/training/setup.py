"""Setup of a training run: Fabric, corpora, model, optimizer, and where an earlier session stopped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from emimic.baselines.model import BaselineModel
from emimic.cpus import read_launcher_variable
from emimic.data import loader, sampling
from emimic.features.kinds import check_source
from emimic.files import make_encodable, make_folder
from emimic.model.compiled import compile_layers
from emimic.task import CorpusError, SettingsError
from emimic.training import adapt_folder, checkpoint, probes, standardize
from emimic.training.background import Writer
from emimic.training.build import build_learner, check_precision
from emimic.training.clips import fingerprint, fingerprint_recordings, make_source
from emimic.training.corpora import RunCorpus, check_mixtures, make_pools
from emimic.training.distill_corpus import get_teacher_cache
from emimic.training.distill_targets import TeacherTargets
from emimic.training.learner import Features, Learner
from emimic.training.losses import Mix
from emimic.training.memory import resolve_batch_seconds
from emimic.training.optimizer import make_optimizer as make_optimizer
from emimic.training.ranks import Ranks
from emimic.training.run_corpora import load_run_corpora, load_run_corpora_once
from emimic.training.settings import TrainSettings

TENSORBOARD: Final = "tensorboard"
"""The folder in a run's own that TensorBoard reads."""


@dataclass
class Run:
    """State of a training run.

    A student's model has a further layer, `checkpoint.PROJECTION`, from its hidden states to its teacher's.

    Attributes:
        folder: the run folder.
        settings: of the run.
        fabric: its processes and device.
        model: that is trained.
        optimizer: its learning rates are set before each step.
        loss: of intensities.
        train: source of the training clips.
        valid: source of the validation clips; None without any.
        progress: where the run is.
        average: averaged weights by name; None without `ema`.
        show: show progress bars.
        teacher: a student's teacher.
        log: of TensorBoard, in the first process.
        signalled: the signal that this process received.
        interruptible: a signal may end what happens now.
        left_out: a line for each clip that was left out.
        stopped_by: the signal that all processes stop by.
        pools: how each corpus's clips are drawn.
        ranks: orders of classes, where their loss has a weight.
        writer: of the last state.
    """

    folder: Path
    settings: TrainSettings
    fabric: Any
    model: Learner
    optimizer: torch.optim.AdamW
    loss: Mix
    train: loader.Source
    valid: loader.Source | None
    progress: checkpoint.Progress
    average: dict[str, Tensor] | None
    show: bool
    teacher: TeacherTargets | None = None
    log: SummaryWriter | None = None
    signalled: int | None = None
    interruptible: bool = False
    left_out: tuple[str, ...] = ()
    stopped_by: int | None = None
    pools: tuple[sampling.Pool, ...] = ()
    ranks: Ranks | None = None
    writer: Writer = field(default_factory=Writer)


def open_run(
    folder: Path | Sequence[Path], out: Path, settings: TrainSettings, *, resume: bool, show: bool
) -> Run:
    """Set up a new run on one corpus or several, or restore one. Raises EmimicError."""
    folders = (folder,) if isinstance(folder, Path) else tuple(folder)
    _check_path(out)
    _check_torch()
    check_source(settings.encoder)  # before hours of reading
    loss = Mix(settings.loss)
    fabric = launch_fabric(settings)
    resumed = resume and _can_resume(out, fabric)
    show = show and fabric.is_global_zero
    teacher = (
        TeacherTargets(get_teacher_cache(settings, out) / settings.teacher) if settings.teacher else None
    )
    _check_number(folders, settings)
    features = _open_features(folders[0], out, settings)
    corpora = load_run_corpora_once(
        fabric, lambda: load_run_corpora(folders, settings, teacher, features, progress=show)
    )
    if show:
        for run_corpus in corpora:
            print(run_corpus.corpus.to_text())  # noqa: T201 - the report a run starts with
    both = settings.train_on == "train+valid"
    items = [item for run_corpus in corpora for item in run_corpus.list_training(both=both)]
    held_out = [item for run_corpus in corpora for item in run_corpus.list_validation(both=both)]
    check_mixtures(corpora, settings)
    drawn = make_pools(corpora, both=both)
    ranks = Ranks.from_corpora(corpora, items) if settings.rank_weight else None
    torch.manual_seed(settings.seed if settings.init_seed is None else settings.init_seed)
    learner = build_learner(settings, corpora[0].corpus, items, teacher, features, ranks)
    model = _prepare(learner.to(fabric.device), settings)
    optimizer = make_optimizer(model, settings)
    make_folder(out)
    marks = fingerprint(items, held_out), fingerprint_recordings(fabric, [*items, *held_out], settings)
    progress, average = _restore(folders, out, model, optimizer, settings, marks, resumed=resumed)
    if fabric.is_global_zero:
        checkpoint.sweep(out)
    if fabric.is_global_zero and not resumed:
        checkpoint.write_settings(out, settings, _describe(folders, corpora, fabric, model))
    settings = resolve_batch_seconds(settings, model, fabric)
    if features is None:
        train = make_source(model, items, out, settings, fabric, show, drawn)
        valid = make_source(model, held_out, out, settings, fabric, show) if held_out else None
    else:
        train = features.make_source(model, items)
        valid = features.make_source(model, held_out) if held_out else None
    if not progress.total_steps:
        _solve(model, train, drawn, settings, fabric, show)
    log = None
    if fabric.is_global_zero:
        log = SummaryWriter(str(out / TENSORBOARD), purge_step=progress.total_steps + 1)
    return Run(
        folder=out,
        settings=settings,
        fabric=fabric,
        model=model,
        optimizer=optimizer,
        loss=loss,
        train=train,
        pools=drawn,
        ranks=ranks,
        teacher=teacher,
        valid=valid,
        progress=progress,
        average=average,
        show=show,
        log=log,
        left_out=_list_left_out(corpora),
    )


def _prepare(model: Any, settings: TrainSettings) -> Any:
    """Return a fresh model with gradient checkpointing and frozen layers as settings say."""
    check_precision(model, settings)
    family = getattr(model.config.encoder_config, "model_type", "missing")
    if settings.context is not None and family != "whisper":
        raise SettingsError(
            f"context encodes clips side by side, found a {family} encoder, expected whisper: leave context out"
        )
    if settings.gradient_checkpointing:
        # transformers renamed it after 5.20 and warns of the old name.
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    probes.freeze(model, settings)
    if settings.compile:
        compile_layers(model.encoder)
    return model


def _restore(
    folders: Sequence[Path],
    out: Path,
    model: Learner,
    optimizer: torch.optim.AdamW,
    settings: TrainSettings,
    marks: tuple[str, str],
    *,
    resumed: bool,
) -> tuple[checkpoint.Progress, dict[str, Tensor] | None]:
    """Return progress and averaged weights, of an earlier session where `resumed`; marks: of corpus and recordings."""
    if resumed:
        progress, average = checkpoint.read_last(out, model, optimizer)
        _check_same(folders, out, progress, *marks)
        return progress, average
    average = None
    if settings.ema is not None:
        average = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    return checkpoint.Progress(corpus=marks[0], recordings=marks[1]), average


def _solve(
    model: Any,
    train: loader.Source,
    drawn: Sequence[sampling.Pool],
    settings: TrainSettings,
    fabric: Any,
    show: bool,
) -> None:
    """Set the parts of a fresh model that have a solution in closed form."""
    if settings.standardize_frames:
        standardize.measure(model, train, drawn, settings, progress=show)
    if settings.ridge:
        probes.solve(model, train.items, settings, fabric, progress=show)


def _list_left_out(corpora: Sequence[RunCorpus]) -> tuple[str, ...]:
    return tuple(
        f"{run_corpus.name + ': ' if len(corpora) > 1 else ''}{split.name}: {omitted.id}: {omitted.reason}"
        for run_corpus in corpora
        for split in run_corpus.corpus.splits.values()
        for omitted in split.left_out
    )


def _check_path(out: Path) -> None:
    """Raise SettingsError for a path that TensorBoard can't write to."""
    if make_encodable(str(out)) != str(out):
        raise SettingsError(
            f"{out}: found a path that is not UTF-8, expected text: TensorBoard needs it. Name another folder (--out)"
        )


def _check_torch() -> None:
    """Raise SettingsError where the calling program has set torch such that training fails or differs."""
    if torch.get_default_dtype() != torch.float32:
        raise SettingsError(
            f"torch's default type is {torch.get_default_dtype()}, expected torch.float32. Call "
            "torch.set_default_dtype(torch.float32) before training"
        )
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        raise SettingsError(
            "torch computes no gradients here (no_grad or inference_mode), expected them. Train outside of it"
        )


def _check_number(folders: Sequence[Path], settings: TrainSettings) -> None:
    if len(folders) > 1 and (settings.baseline or settings.teacher):
        kind = "a baseline" if settings.baseline else "a student"
        raise SettingsError(f"{kind} learns from one corpus, found {len(folders)}; name one folder")


def _check_same(
    folders: Sequence[Path], out: Path, progress: checkpoint.Progress, corpus: str, recordings: str
) -> None:
    if (progress.corpus, progress.recordings) != (corpus, recordings):
        what = "clips or labels differ" if progress.corpus != corpus else "recordings of the same name differ"
        raise CorpusError(
            f"{', '.join(map(str, folders))} isn't the corpus that {out} was started with: {what}. Bring it back as it "
            "was, or start another run"
        )


def _can_resume(out: Path, fabric: Any) -> bool:
    """Return True if a run has saved anything. Raises SettingsError for an adapted run, or another number of processes.

    Each process draws its own random masks, so that a run repeats only with as many.
    """
    if (out / adapt_folder.SETTINGS).exists():
        raise SettingsError(f"{out} is a run of emimic adapt: resume it with that, or name another folder")
    if not (out / checkpoint.LAST).exists():
        return False
    started = checkpoint.read_facts(out).get("processes")
    if started != fabric.world_size:
        raise SettingsError(
            f"{out} was started with {started} processes, found {fabric.world_size}; expected as many. Resume it with "
            f"torchrun --nproc-per-node {started}, or start another run"
        )
    return True


def _open_features(folder: Path, out: Path, settings: TrainSettings) -> Features | None:
    """Return a baseline's features; those of a resumed run must be the same as at its start."""
    if settings.baseline is None:
        return None
    features = Features.from_folder(folder, settings.modalities)
    if (out / "config.json").exists():
        features.check(BaselineModel.read_config(out).made_by)
    return features


def launch_fabric(settings: TrainSettings) -> Any:
    """Launch Fabric in one process, or in as many as torchrun started."""
    world = read_launcher_variable("WORLD_SIZE", 1)
    local = read_launcher_variable("LOCAL_WORLD_SIZE", 1)
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            strategy="ddp" if world > 1 else "auto",
            devices=local,
            num_nodes=max(1, world // local),
            precision=settings.precision,
        )
    except (ValueError, RuntimeError) as error:
        raise SettingsError(f"accelerator {settings.accelerator!r} can't be used here: {error}") from error
    fabric.launch()
    return fabric


def _describe(
    folders: Sequence[Path], corpora: Sequence[RunCorpus], fabric: Any, model: Learner
) -> dict[str, Any]:
    """Return what `train.json` records beside the settings: versions, device, parameters, corpora."""
    reports = [
        {"folder": folder.name, **one.corpus.to_dict()} for folder, one in zip(folders, corpora, strict=True)
    ]
    parts = [p for name, p in model.named_parameters() if not name.startswith(f"{checkpoint.PROJECTION}.")]
    return {
        "versions": {
            name: version(name) for name in ("emimic", "torch", "transformers", "lightning-fabric", "numpy")
        },
        "device": str(fabric.device),
        "processes": fabric.world_size,
        "parameters": {
            "all": sum(p.numel() for p in parts),
            "trained": sum(p.numel() for p in parts if p.requires_grad),
        },
        "corpus": reports[0],
        **({"further_corpora": reports[1:]} if reports[1:] else {}),
    }
