"""Fresh models of a run: the paper's, a student's, or a baseline."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from torch import nn

from emimic.baselines.model import BaselineConfig, BaselineModel
from emimic.data.corpus import Corpus, Item
from emimic.features import frames
from emimic.model import branches, encoders, loading
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.model.settings import ModelSettings
from emimic.task import VAD, CorpusError, SettingsError
from emimic.training import checkpoint
from emimic.training.clips import get_labels
from emimic.training.distill_targets import TeacherTargets
from emimic.training.learner import Features, Learner
from emimic.training.ranks import Ranks
from emimic.training.settings import TrainSettings


def build_model(
    settings: TrainSettings,
    corpus: Corpus,
    items: Sequence[Item],
    *,
    vad: bool = False,
    ranked: Sequence[str] = (),
) -> EmiModel:
    """Return a fresh model for a corpus.

    Args:
        settings: of the run.
        corpus: the first one, with the targets.
        items: the training clips.
        vad: a teacher predicts V/A/D.
        ranked: names of the quantities that a rank loss orders.

    Raises:
        SettingsError: if settings don't fit the clips.
        CorpusError: if a part of the model has nothing to learn from.
    """
    config: dict[str, Any] = {field.name: getattr(settings, field.name) for field in fields(ModelSettings)}
    config |= branches.make_configs(settings)
    if settings.vision is not None:
        config["vision"] |= frames.read_crop_settings(corpus.folder, config["vision"])
    config["domain_targets"] = settings.domain_targets
    config["targets"] = list(corpus.targets)
    config["categories"] = sorted({item.category for item in items if item.category is not None})
    config["domains"] = _list_domains(settings, items)
    labeled = settings.vad_weight > 0 and any(item.vad is not None for item in items)
    labeled = labeled or bool(set(VAD) & set(ranked))
    has_vad = settings.vad_head and settings.audio
    config["vad_learned"] = has_vad and (labeled or (vad and settings.teacher_vad_weight > 0))
    if set(VAD) & (set(ranked) - set(corpus.targets)) and not has_vad:
        raise SettingsError(
            "ranks order V/A/D, but vad_head is off: switch it on, or leave them out of the order"
        )
    _check_learnable(settings, corpus, items, config, ranked)
    if settings.vad_dropout is not None:
        config["vad_dropout"] = settings.vad_dropout
    if settings.standardize_targets:
        config |= _measure_targets(items)
    if settings.encoder is not None and settings.audio:
        model = EmiModel.from_encoder(settings.encoder, layers=settings.encoder_layers, **config)
    else:
        model = EmiModel(EmiConfig(encoder_config=settings.encoder_config, **config))
    for name, branch in model.branches.items():
        branch.fill(getattr(settings, name))  # type: ignore[operator]
    if settings.start_heads:
        loading.fill_heads(model, str(settings.encoder))
    return model


def add_projection(
    model: EmiModel, settings: TrainSettings, items: Sequence[Item], teacher: TeacherTargets
) -> None:
    """Add a student's layer from its hidden states to its teacher's, where their loss has a weight."""
    if settings.teacher_frame_weight:
        projection = nn.Linear(model.config.hidden_features, teacher.measure(items))
        model.add_module(checkpoint.PROJECTION, projection)


def build_baseline(
    settings: TrainSettings, corpus: Corpus, items: Sequence[Item], features: Features
) -> BaselineModel:
    """Return a fresh baseline for a corpus and its features."""
    _check_learnable(settings, corpus, items, {"categories": [], "vad_learned": False})
    config = BaselineConfig(
        baseline=str(settings.baseline),
        options=settings.baseline_options,
        modalities=settings.modalities,
        sizes=features.measure_sizes(),
        made_by=features.read_digests(),
        targets=list(corpus.targets),
        max_seconds=settings.max_seconds,
        **(_measure_targets(items) if settings.standardize_targets else {}),
    )
    return BaselineModel.create(config, settings.encoder or settings.encoder_config, settings.encoder_layers)


def build_learner(
    settings: TrainSettings,
    corpus: Corpus,
    items: Sequence[Item],
    teacher: TeacherTargets | None,
    features: Features | None,
    ranks: Ranks | None,
) -> Any:
    """Return a fresh model of the run's kind: a baseline with features, a student with a teacher, else the paper's."""
    if features is not None:
        return build_baseline(settings, corpus, items, features)
    vad = teacher is not None and teacher.teacher.vad
    model = build_model(settings, corpus, items, vad=vad, ranked=() if ranks is None else ranks.names)
    if teacher is not None:
        add_projection(model, settings, items, teacher)
    return model


def check_precision(model: Learner, settings: TrainSettings) -> None:
    """Raise SettingsError for an encoder that bf16-mixed computes wrongly on a CPU, and would learn from noise."""
    encoder: Any = model.encoder.config if hasattr(model, "encoder") else None
    if settings.precision != "bf16-mixed" or model.device.type != "cpu" or encoder is None:
        return
    if not encoders.is_exact_in_bf16(encoder):
        raise SettingsError(
            f"precision is bf16-mixed, but the encoder's positional convolution has "
            f"{encoders.compute_group_width(encoder)} channels a group, and such are computed wrongly on some CPUs; "
            "expected a multiple of 16: set precision to 32-true, or fewer num_conv_pos_embedding_groups"
        )


def _list_domains(settings: TrainSettings, items: Sequence[Item]) -> list[str]:
    """Return the domains of a model with domain heads. Raises SettingsError where no corpus has one of its domains."""
    if not settings.domain_targets:
        return []
    domains = sorted({item.domain for item in items if item.domain is not None})
    if len(domains) < 2 or not set(settings.domain_targets) <= set(domains):
        raise SettingsError(
            f"domain_targets names {', '.join(settings.domain_targets)}; the corpora's domains are "
            f"{', '.join(domains) or 'none'}: expected two or more with those among them (corpora.NAME.domain)"
        )
    return domains


def _measure_targets(items: Sequence[Item]) -> dict[str, Any]:
    """Return mean and standard deviation of each target over the training clips."""
    labels = np.stack([get_labels(item) for item in items]).astype(np.float64)
    std = np.nanstd(labels, axis=0)
    return {
        "target_mean": np.nanmean(labels, axis=0).tolist(),
        "target_std": np.where(std > 0, std, 1.0).tolist(),
    }


def _check_learnable(
    settings: TrainSettings,
    corpus: Corpus,
    items: Sequence[Item],
    config: dict[str, Any],
    ranked: Sequence[str] = (),
) -> None:
    """Raise CorpusError where a part of the model has nothing to learn from."""
    if settings.category is not None and (len(config["categories"]) < 2 or not corpus.targets):
        beside = "" if corpus.targets else " beside V/A/D labels only"
        raise CorpusError(
            f"{corpus.folder}: the column {settings.category!r} names {len(config['categories'])} classes of training "
            f"clips{beside}; expected two or more, beside targets. Name another column (category), or leave it out"
        )
    if not (corpus.targets or config["vad_learned"]):
        raise CorpusError(
            f"{corpus.folder} has V/A/D labels only; expected vad_head on, vad_weight above 0 and clips with such "
            "labels. Set them so, or add targets"
        )
    labels = np.stack([get_labels(item) for item in items]).T
    if empty := [
        name
        for name, column in zip(corpus.targets, labels, strict=True)
        if np.isnan(column).all() and name not in ranked
    ]:
        raise CorpusError(
            f"{corpus.folder}: no training clip has a label for {', '.join(empty)}; add labels, or name other targets"
        )
