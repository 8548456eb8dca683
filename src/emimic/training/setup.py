"""A training run and how it is set up: Fabric, the corpus, the model, the optimizer, where it stopped before."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from emimic.baselines.model import BaselineConfig, BaselineModel
from emimic.cpus import launched
from emimic.data import loader, sampling
from emimic.data.augment import Augment
from emimic.data.corpus import Corpus, Item, in_parallel, load_corpus
from emimic.data.corpus_settings import CorpusSettings
from emimic.data.joins import Joins
from emimic.features import encoder_cache
from emimic.features.kinds import check_source
from emimic.files import encodable, make_folder
from emimic.files import fingerprint as content_sample
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import VAD, CorpusError, SettingsError
from emimic.training import checkpoint, probes, standardize
from emimic.training.corpora import Member, check_mixtures, load_corpora, pools
from emimic.training.distill_corpus import answers_of, load_taught
from emimic.training.distill_targets import Lessons
from emimic.training.learner import Features, Learner
from emimic.training.losses import Mix
from emimic.training.ranks import Ranks
from emimic.training.settings import TrainSettings

TENSORBOARD: Final = "tensorboard"
"""The folder in a run's own that TensorBoard reads."""


@dataclass
class Run:
    """What a training run holds while it runs.

    A student's model has one part more, `checkpoint.PROJECTION`: from its hidden states to its teacher's (frame,
    feature).
    """

    folder: Path
    settings: TrainSettings
    fabric: Any
    model: Learner
    optimizer: torch.optim.AdamW
    loss: Mix
    train: loader.Source
    lessons: Lessons | None  # a teacher's
    valid: loader.Source | None
    progress: checkpoint.Progress
    average: dict[str, Tensor] | None
    show: bool
    log: SummaryWriter | None = None
    signalled: int | None = None  # the signal that this process got
    interruptible: bool = False  # whether a signal may end what happens now
    left_out: tuple[str, ...] = ()
    stopped_by: int | None = None  # the signal that all processes stop by
    pools: tuple[sampling.Pool, ...] = ()  # how each corpus's clips are drawn
    ranks: Ranks | None = None  # orders of classes, where their loss has a weight


def open_run(
    folder: Path | Sequence[Path], out: Path, settings: TrainSettings, *, resume: bool, show: bool
) -> Run:
    """Set up a run on one corpus or several, or what it takes to go on with it. Raises EmimicError."""
    folders = (folder,) if isinstance(folder, Path) else tuple(folder)
    _check_text(out)
    _check_torch()
    check_source(settings.encoder)  # before hours of reading
    loss = Mix(settings.loss)
    fabric = _fabric(settings)
    resumed = resume and _can_resume(out, fabric)
    show = show and fabric.is_global_zero
    both = settings.train_on == "train+valid"
    lessons = Lessons(answers_of(settings, out) / settings.teacher) if settings.teacher else None
    _check_number(folders, settings)
    heard = _features(folders[0], out, settings)
    members = _members(folders, settings, lessons, heard, show)
    corpus = members[0].corpus
    if show:
        for member in members:
            print(member.corpus.summary())  # noqa: T201 - the report a run starts with
    items = [item for member in members for item in member.learned(both=both)]
    held_out = [item for member in members for item in member.held_out(both=both)]
    check_mixtures(members, settings)
    drawn = pools(members, both=both)
    ranked = Ranks.of(members, items) if settings.rank_weight else None
    torch.manual_seed(settings.seed if settings.init_seed is None else settings.init_seed)
    model = _build(settings, corpus, items, lessons, heard, ranked).to(fabric.device)
    _check_precision(model, settings)
    if settings.gradient_checkpointing:
        # transformers renamed it after 5.20 and warns of the old name.
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    probes.freeze(model, settings)
    optimizer = _optimizer(model, settings)
    make_folder(out)
    recordings = _recordings(fabric, [*items, *held_out], settings)
    if resumed:
        progress, average = checkpoint.read_last(out, model, optimizer)
        _check_same(folders, out, progress, fingerprint(items, held_out), recordings)
    else:
        progress = checkpoint.Progress(corpus=fingerprint(items, held_out), recordings=recordings)
        average = None
        if settings.ema is not None:
            average = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    if fabric.is_global_zero:
        checkpoint.sweep(out)
    if fabric.is_global_zero and not resumed:
        checkpoint.write_settings(out, settings, _facts(folders, members, fabric, model))
    if heard is None:
        learned = source_of(model, items, out, settings, fabric, show, drawn)
        watched = source_of(model, held_out, out, settings, fabric, show) if held_out else None
    else:
        learned, watched = heard.source(model, items), heard.source(model, held_out) if held_out else None
    if not progress.total_steps:
        _measure(model, learned, drawn, settings, show)
    log = (
        SummaryWriter(str(out / TENSORBOARD), purge_step=progress.total_steps + 1)
        if fabric.is_global_zero
        else None
    )
    left_out = tuple(
        f"{member.name + ': ' if len(members) > 1 else ''}{split.name}: {left.id}: {left.reason}"
        for member in members
        for split in member.corpus.splits.values()
        for left in split.left_out
    )
    return Run(
        folder=out,
        settings=settings,
        fabric=fabric,
        model=model,
        optimizer=optimizer,
        loss=loss,
        train=learned,
        pools=drawn,
        ranks=ranked,
        lessons=lessons,
        valid=watched,
        progress=progress,
        average=average,
        show=show,
        log=log,
        left_out=left_out,
    )


def _measure(
    model: Any,
    learned: loader.Source,
    drawn: Sequence[sampling.Pool],
    settings: TrainSettings,
    show: bool,
) -> None:
    """Set the parts of a fresh model that are known in closed form."""
    if settings.standardize_frames:
        standardize.measure(model, learned, drawn, settings, progress=show)
    if settings.ridge:
        probes.solve(model, learned, copies_of(drawn, settings), settings, progress=show)


def _check_text(out: Path) -> None:
    """Raise SettingsError for a path that TensorBoard can't write to."""
    if encodable(str(out)) != str(out):
        raise SettingsError(
            f"{out}: found a path that is not UTF-8, expected text: TensorBoard needs it. Name another folder (--out)"
        )


def _check_torch() -> None:
    """Raise SettingsError where the program has set torch such that nothing, or something else, would be learned."""
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
        who = "a baseline" if settings.baseline else "a student"
        raise SettingsError(f"{who} learns from one corpus, found {len(folders)}; name one folder")


def _check_same(
    folders: Sequence[Path], out: Path, progress: checkpoint.Progress, here: str, recordings: str
) -> None:
    if (progress.corpus, progress.recordings) != (here, recordings):
        what = "clips or labels differ" if progress.corpus != here else "recordings of the same name differ"
        raise CorpusError(
            f"{', '.join(map(str, folders))} isn't the corpus that {out} was started with: {what}. Bring it back as it "
            "was, or start another run"
        )


def _can_resume(out: Path, fabric: Any) -> bool:
    """Return whether a run has saved anything; SettingsError where other processes did.

    Each process draws its own random masks, so that a run is the same only with as many.
    """
    if not (out / checkpoint.LAST).exists():
        return False
    started = checkpoint.read_facts(out).get("processes")
    if started != fabric.world_size:
        raise SettingsError(
            f"{out} was started with {started} processes, found {fabric.world_size}; expected as many. Resume it with "
            f"torchrun --nproc-per-node {started}, or start another run"
        )
    return True


def _build(
    settings: TrainSettings,
    corpus: Corpus,
    items: Sequence[Item],
    lessons: Lessons | None,
    heard: Features | None,
    ranked: Ranks | None,
) -> Any:
    """A fresh model of either kind, a student's with its projection."""
    if heard is not None:
        return build_baseline(settings, corpus, items, heard)
    names = () if ranked is None else ranked.names
    vad = lessons is not None and lessons.teacher.vad
    model = build_model(settings, corpus, items, vad=vad, **({"ranked": names} if names else {}))
    if lessons is not None and settings.teacher_frame_weight:
        projection = nn.Linear(model.config.hidden_features, lessons.measure(items))
        model.add_module(checkpoint.PROJECTION, projection)
    return model


def _features(folder: Path, out: Path, settings: TrainSettings) -> Features | None:
    """What a baseline hears; a run that goes on must find what it began with."""
    if settings.baseline is None:
        return None
    heard = Features.of(folder, settings.modalities)
    if (out / "config.json").exists():
        heard.check(BaselineModel.config_of(out).made_by)
    return heard


def _members(
    folders: Sequence[Path],
    settings: TrainSettings,
    lessons: Lessons | None,
    heard: Features | None,
    show: bool,
) -> tuple[Member, ...]:
    if lessons is not None:
        corpus = load_taught(folders[0], settings, lessons)
    elif heard is not None:
        corpus = _baselines_corpus(folders[0], settings, heard, show)
    else:
        return load_corpora(folders, settings, progress=show)
    return (Member(folders[0].resolve().name, CorpusSettings.model_validate({}), corpus),)


def _baselines_corpus(folder: Path, settings: TrainSettings, heard: Features, show: bool) -> Corpus:
    corpus = load_corpus(
        folder,
        targets=settings.targets,
        splits=["train", "valid"],
        label_scale=settings.label_scale,
        workers=settings.workers,
        progress=show,
        clips=heard.clips,
    )
    corpus = heard.told(corpus)
    if settings.folds > 1 and any(item.speaker is None for item in corpus.splits["train"].items):
        note = (
            f"the {settings.folds} folds of {settings.baseline} are of clips where the table names no speaker: "
            "one speaker may be in several"
        )
        return replace(corpus, warnings=(*corpus.warnings, note))
    return corpus


def _fabric(settings: TrainSettings) -> Any:
    """One process, or as many as torchrun started."""
    world = launched("WORLD_SIZE", 1)
    local = launched("LOCAL_WORLD_SIZE", 1)
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


def build_model(
    settings: TrainSettings,
    corpus: Corpus,
    items: Sequence[Item],
    *,
    vad: bool = False,
    ranked: Sequence[str] = (),
) -> EmiModel:
    """A fresh model for a corpus. vad: a teacher answers VAD, too. ranked: what a rank loss teaches."""
    names = (
        "freeze_encoder", "freeze_convolutions", "global_vector", "global_spread", "regression_head", "lstm",
        "vad_head", "lstm_layers", "lstm_units", "lstm_dropout", "head_dropout", "max_seconds", "padding",
        "hidden_layers", "probe_layers", "frozen_layers", "standardize_frames", "attentive", "head_units", "bounded",
        "vad_units", "vad_seconds", "vad_bounded", "domain_targets",
    )  # fmt: skip
    config: dict[str, Any] = {name: getattr(settings, name) for name in names}
    config["targets"] = list(corpus.targets)
    config["categories"] = sorted({item.category for item in items if item.category is not None})
    config["domains"] = _domains(settings, items)
    felt = settings.vad_weight > 0 and any(item.vad is not None for item in items)
    felt = felt or bool(set(VAD) & set(ranked))
    config["vad_learned"] = settings.vad_head and (felt or (vad and settings.teacher_vad_weight > 0))
    if set(VAD) & (set(ranked) - set(corpus.targets)) and not settings.vad_head:
        raise SettingsError(
            "ranks order V/A/D, but vad_head is off: switch it on, or leave them out of the order"
        )
    _check_learnable(settings, corpus, items, config, ranked)
    if settings.vad_dropout is not None:
        config["vad_dropout"] = settings.vad_dropout
    if settings.standardize_targets:
        config |= _scale(items)
    if settings.encoder is not None:
        return EmiModel.from_encoder(settings.encoder, layers=settings.encoder_layers, **config)
    return EmiModel(EmiConfig(encoder_config=settings.encoder_config, **config))


def _domains(settings: TrainSettings, items: Sequence[Item]) -> list[str]:
    """The domains of a model that has heads for some. Raises SettingsError where the corpora have no such domain."""
    if not settings.domain_targets:
        return []
    found = sorted({item.domain for item in items if item.domain is not None})
    if len(found) < 2 or not set(settings.domain_targets) <= set(found):
        raise SettingsError(
            f"domain_targets names {', '.join(settings.domain_targets)}; the corpora's domains are "
            f"{', '.join(found) or 'none'}: expected two or more with those among them (corpora.NAME.domain)"
        )
    return found


def build_baseline(
    settings: TrainSettings, corpus: Corpus, items: Sequence[Item], heard: Features
) -> BaselineModel:
    """A compared system at its start, for a corpus and its features."""
    _check_learnable(settings, corpus, items, {"categories": [], "vad_learned": False})
    config = BaselineConfig(
        baseline=str(settings.baseline),
        options=settings.baseline_options,
        modalities=settings.modalities,
        sizes=heard.sizes(),
        made_by=heard.made_by(),
        targets=list(corpus.targets),
        max_seconds=settings.max_seconds,
        **(_scale(items) if settings.standardize_targets else {}),
    )
    return BaselineModel.fresh(config, settings.encoder or settings.encoder_config, settings.encoder_layers)


def _scale(items: Sequence[Item]) -> dict[str, Any]:
    """Mean and spread of each target over the clips that are learned."""
    labels = np.stack([labels_of(item) for item in items]).astype(np.float64)
    spread = np.nanstd(labels, axis=0)
    return {
        "target_mean": np.nanmean(labels, axis=0).tolist(),
        "target_std": np.where(spread > 0, spread, 1.0).tolist(),
    }


def _check_learnable(
    settings: TrainSettings,
    corpus: Corpus,
    items: Sequence[Item],
    config: dict[str, Any],
    ranked: Sequence[str] = (),
) -> None:
    """Raise CorpusError where a part of the model would find nothing to learn from."""
    if settings.category is not None and (len(config["categories"]) < 2 or not corpus.targets):
        beside = "" if corpus.targets else " beside VAD labels alone"
        raise CorpusError(
            f"{corpus.folder}: the column {settings.category!r} names {len(config['categories'])} classes of training "
            f"clips{beside}; expected two or more, beside targets. Name another column (category), or leave it out"
        )
    if not (corpus.targets or config["vad_learned"]):
        raise CorpusError(
            f"{corpus.folder} has labels of VAD alone; expected vad_head on, vad_weight above 0 and clips with such "
            "labels. Set them so, or add targets"
        )
    if empty := [
        name
        for name, column in zip(corpus.targets, np.stack([labels_of(item) for item in items]).T, strict=True)
        if np.isnan(column).all() and name not in ranked
    ]:
        raise CorpusError(
            f"{corpus.folder}: no training clip has a label for {', '.join(empty)}; add labels, or name other targets"
        )


def _check_precision(model: Learner, settings: TrainSettings) -> None:
    """oneDNN's bf16 convolutions with groups of other than 16, 32, ... channels are wrong on CPUs with AMX (torch 2.13:
    off by as much as their own spread), so the positional convolution of such an encoder would learn from rubbish."""
    inner: Any = model.encoder.config if hasattr(model, "encoder") else None
    groups = getattr(inner, "num_conv_pos_embedding_groups", None)
    wide = inner.hidden_size // groups if groups else 16
    if settings.precision == "bf16-mixed" and model.device.type == "cpu" and wide % 16:
        raise SettingsError(
            f"precision is bf16-mixed, but the encoder's positional convolution has {wide} channels a group, and "
            "such are computed wrongly on some CPUs; expected a multiple of 16: set precision to 32-true, or fewer "
            "num_conv_pos_embedding_groups"
        )


def labels_of(item: Item) -> NDArray[np.float32]:
    """(target,), NaN where missing."""
    if item.labels is None:
        raise CorpusError(f"clip {item.id} has no labels; training needs them")
    return item.labels


def vad_of(item: Item) -> NDArray[np.float32]:
    """(3,), NaN where missing."""
    return np.full(len(VAD), np.nan, np.float32) if item.vad is None else item.vad


def _optimizer(model: Learner, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over what is trained; the encoder and the VAD head that came with it may have a rate of their own, and so
    may what `rates` names."""
    own = ("encoder.", "vad.") if getattr(model.config, "vad_pretrained", False) else ("encoder.",)
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = settings.encoder_lr or settings.lr if name.startswith(own) else settings.lr
            rate = next((value for part, value in settings.rates.items() if part in name.split(".")), rate)
            groups.setdefault(rate, []).append(parameter)
    names = {
        part for name, _ in model.named_parameters() for part in name.split(".")
    } | settings.modalities.keys()
    if unknown := [part for part in settings.rates if part not in names | set(settings.roles)]:
        raise SettingsError(
            f"rates names {', '.join(unknown)}, and no parameter has such a part in its name; parts are "
            f"{', '.join(sorted(name for name in names if not name.isdigit()))}"
        )
    parts = [{"params": group, "peak": rate} for rate, group in groups.items()]
    if not parts:
        raise SettingsError(
            "nothing is left to train: freeze_encoder also freezes the VAD head that came with the encoder, and "
            "without targets there is no other part. Set freeze_encoder to false, or add targets"
        )
    # The same formula in one pass over memory; torch chooses so by itself on no device.
    fused = model.device.type == "cpu"
    return torch.optim.AdamW(
        parts, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused
    )


def source_of(
    model: EmiModel,
    items: Sequence[Item],
    out: Path,
    settings: TrainSettings,
    fabric: Any,
    show: bool,
    drawn: Sequence[sampling.Pool] = (),
) -> loader.Source:
    """What clips are read from: media files (changed at random while learning), or cached features.

    drawn: how clips that are learned from are drawn.
    """
    if not settings.freeze_encoder:
        if not drawn:
            return loader.waveforms(items, model.config, model.min_samples)
        changed = settings.augment or settings.codec
        augment = Augment(settings.augment, settings.seed, settings.codec) if changed else None
        source = loader.waveforms(items, model.config, model.min_samples, augment, _joins(items, settings))
        if not settings.frozen_copies:
            return source
        started = encoder_cache.compute_frozen(
            model,
            source,
            copies_of(drawn, settings),
            out / checkpoint.FROZEN,
            share=(fabric.global_rank, fabric.world_size),
            dtype=settings.feature_dtype,
            batch_seconds=settings.batch_seconds,
            workers=settings.workers,
            progress=show,
        )
        fabric.barrier()
        return started
    folder = Path(settings.features) if settings.features else out / "features"
    shares = [items[fabric.global_rank :: fabric.world_size], items]
    for share in shares:  # each process computes its own, then all find everything there
        source = encoder_cache.compute(
            model,
            share,
            folder,
            dtype=settings.feature_dtype,
            batch_seconds=settings.batch_seconds,
            workers=settings.workers,
            progress=show,
        )
        fabric.barrier()
    return source


def copies_of(drawn: Sequence[sampling.Pool], settings: TrainSettings) -> list[list[int]]:
    """Return the rows of each copy whose frozen outputs are kept; without any kept, of the first epoch."""
    copies = min(settings.frozen_copies, settings.epochs)
    epochs = settings.epochs if copies else 1
    return sampling.rows_of_copies(drawn, copies or 1, seed=settings.seed, epochs=epochs)


def _joins(items: Sequence[Item], settings: TrainSettings) -> Joins | None:
    """What joins and cuts training clips; None where nothing does."""
    mixtures = settings.mixtures
    if mixtures is None and not settings.lengths:
        return None
    return Joins.of(
        items,
        seed=settings.seed,
        max_seconds=settings.max_seconds,
        lengths=settings.lengths,
        mixed=0.0 if mixtures is None else mixtures.fraction,
        corpora=() if mixtures is None else mixtures.corpora,
    )


def fingerprint(*splits: Sequence[Item]) -> str:
    """16 hex digits that change with the clips of the splits, their order or their labels of any kind."""
    digest = hashlib.sha256()
    for items in splits:
        for item in items:
            key = item.key.encode(errors="surrogateescape")  # a file's name may be no text
            digest.update(key + b"\0" + (b"" if item.labels is None else item.labels.tobytes()))
            digest.update((b"" if item.vad is None else item.vad.tobytes()) + (item.category or "").encode())
            digest.update("".join(f"\0{name}\0{cell}" for name, cell in sorted(item.cells.items())).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def _recordings(fabric: Any, items: Sequence[Item], settings: TrainSettings) -> str:
    """16 hex digits that change with the files of the clips: their sizes and samples of their content."""

    def sample(item: Item) -> str:
        try:
            return content_sample(item.path, blocks=8)
        except OSError:  # reading it will say so; features need no recording
            return ""

    found = ""
    if fabric.is_global_zero:
        parts = in_parallel(sample, items, workers=settings.workers, progress=False, text="")
        found = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return str(fabric.broadcast(found)) if fabric.world_size > 1 else found


def _facts(folders: Sequence[Path], members: Sequence[Member], fabric: Any, model: Learner) -> dict[str, Any]:
    reports = [
        {"folder": folder.name, **member.corpus.report()}
        for folder, member in zip(folders, members, strict=True)
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
