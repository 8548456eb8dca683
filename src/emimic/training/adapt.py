"""`emimic adapt`: a copy of a model learns to predict windows alike in one pass over a recording and each as a clip.

A model that learned from clips has never met sound beyond a window's edges, nor a clip that doesn't start at the
encoder's first position. The copy learns from recordings without labels. Its targets are the predictions and the pooled
frames of the model itself on windows cut out as clips; its two ways also learn from each other.

Layers that linear heads read (`probe_layers`) learn from their own pooled frames alone: predictions on the few speakers
of a corpus would tie them to these (with the included model, joy of Amharic speech fell from .77 to .67; docs/log.md).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emimic.calibration import Calibration
from emimic.cpus import count_available
from emimic.data.augment import Augment
from emimic.files import fingerprint, hold, make_folder, read_json, write_atomically
from emimic.inference.grid import WINDOW
from emimic.inference.passes import FILE, LIVE, Blocks
from emimic.model import encoders
from emimic.model.model import WEIGHTS, EmiModel
from emimic.model.windows import Windows, regress_windows
from emimic.progress import make_bar
from emimic.task import SAMPLE_RATE, VAD, ModelError, SettingsError
from emimic.training import checkpoint, signals
from emimic.training.adapt_report import AdaptReport, Agreement
from emimic.training.adapt_rows import INDEX, SAMPLES, Wave, read_recordings
from emimic.training.adapt_settings import AdaptSettings
from emimic.training.process import flush_denormals, use_threads

SCHEMA: Final = "emimic/adapt/1"
SETTINGS: Final = "adapt.json"
"""File of the settings in an adapted run."""
HOP: Final = 0.2
"""Seconds between two centers of windows, as in a timeline."""
FLOOR: Final = 0.03
"""Least standard deviation by which a difference is divided: smaller ones are no difference to a reader."""
MEASURED: Final = 16
"""Rows of each folder that scale the differences, and as many again that measure the agreement."""
KEPT: Final = 100
"""Steps between two saves."""
WARMUP: Final = 30
UPPER: Final = 0.2
"""Weight of the pooled frames of layers that learn from predictions, too."""
FAST: Final = 2.0
"""Learning rate of the other layers, in that of the settings."""


def adapt(
    run: Path,
    folders: Sequence[Path],
    out: Path,
    settings: AdaptSettings | None = None,
    *,
    resume: bool = False,
    show: bool = True,
) -> AdaptReport:
    """Adapt a run to timelines in one pass.

    A first SIGTERM or SIGINT saves after the current step and returns with `signal` set.

    Args:
        run: a training run with targets, on audio alone.
        folders: of recordings, also in folders within; each gives as many rows as the others.
        out: the new run's folder.
        settings: None: the defaults, or with `resume` those of the run in `out`.
        resume: continue the run in `out`, if there is one.
        show: show progress bars.

    Raises:
        EmimicError: the run, the recordings or the folder can't be used, or another process writes there.
    """
    is_started = (out / SETTINGS).exists() and (out / INDEX).exists()
    if is_started and not resume:
        raise SettingsError(f"{out} already holds a run: resume it (--resume), or name another folder")
    if not is_started and any((out / name).exists() for name in (checkpoint.SETTINGS, WEIGHTS)):
        raise SettingsError(f"{out} holds a model that adapt has not begun: name another folder")
    make_folder(out)
    with hold(out / checkpoint.LOCK) as locked:
        if not locked:
            raise SettingsError(
                f"{out} is in use: another process writes to it. Wait for it, or name another"
            )
        checkpoint.sweep(out, SAMPLES)
        settings = _read_settings(run, out, settings)
        with flush_denormals(), use_threads(None):
            report = _Adapting(run, folders, out, settings, show).work()
        if (run / checkpoint.SETTINGS).exists():  # how the run was trained
            write_atomically(out / checkpoint.SETTINGS, (run / checkpoint.SETTINGS).read_bytes())
        return report


def _read_settings(run: Path, out: Path, settings: AdaptSettings | None) -> AdaptSettings:
    """Return the settings of the run in `out`, or write those of a new one."""
    weights = fingerprint(run / WEIGHTS)
    file = out / SETTINGS
    if file.exists() and (out / INDEX).exists():  # without an index nothing has been learned
        try:
            stored = read_json(file)
            before = AdaptSettings.read(stored["settings"])
            is_same = stored["weights"] == weights
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{file} can't be read ({error}): name another folder") from error
        if not is_same or settings not in (None, before):
            raise SettingsError(
                f"{out} was started from another run or with other settings: name another folder"
            )
        return before
    settings = settings or AdaptSettings.read()
    described = {"schema": SCHEMA, "weights": weights, "settings": settings.model_dump(mode="json")}
    write_atomically(file, json.dumps(described, indent=1) + "\n")
    return settings


@dataclass(frozen=True)
class _Batch:
    """Rows of sound, and windows of them in samples; kinds: the folder of each row. (window,) and (window, 2)."""

    waves: list[Wave]
    kinds: NDArray[np.int64]
    rows: NDArray[np.int64]
    edges: NDArray[np.int64]
    blocks: Blocks


class _Adapting:
    """A model, its copy that learns, and the recordings."""

    def __init__(
        self, run: Path, folders: Sequence[Path], out: Path, settings: AdaptSettings, show: bool
    ) -> None:
        self.out, self.settings, self.show = out, settings, show
        self.teacher = EmiModel.open_run(run).requires_grad_(False)
        config = self.teacher.config
        if not (config.targets and config.audio) or self.teacher.branches:
            raise ModelError(f"{run} predicts no timeline in one pass; expected targets, and audio alone")
        self.student = EmiModel.open_run(run).requires_grad_(False)
        self.student.config.frozen_layers = 0
        self.lower, self.upper = _choose_parameters(self.student)
        self.trained = self.lower | self.upper
        features = set(config.probe_features if config.probe_layers else ())
        is_lower = torch.tensor([feature in features for feature in range(config.hidden_features)])
        self.is_lower = is_lower.repeat(2).to(self.teacher.device)  # of means and standard deviations
        self.calibration = Calibration.find_in_run(run, config.targets)
        self.hop = encoders.compute_hop(config.encoder_config)
        self.first = float(encoders.compute_frame_times(config.encoder_config, 1)[0]) * SAMPLE_RATE
        self.augment = Augment(settings.augment, settings.seed, settings.codec)
        self.recordings = read_recordings(folders, out, workers=count_available(), show=show)
        self.signal: int | None = None

    def work(self) -> AdaptReport:
        """Train, save, and measure the agreement."""
        tests = [self._draw(-1 - n, augmented=False) for n in range(MEASURED)]
        before = self._measure(self.teacher, tests)
        optimizer = self._make_optimizer()
        progress, average = checkpoint.Progress(), {n: p.detach().clone() for n, p in self.trained.items()}
        if (self.out / checkpoint.LAST).exists():
            progress, stored = checkpoint.read_last(self.out, self.student, optimizer)
            average = stored or average
        scales = self._compute_scales()
        with signals.handle(self._stop), make_bar(show=self.show) as bar:
            task = bar.add_task("adapting", total=self.settings.steps, completed=progress.total_steps)
            while progress.total_steps < self.settings.steps and self.signal is None:
                loss = self._step(optimizer, average, scales, progress.total_steps)
                progress.total_steps += 1
                bar.update(task, advance=1, description=f"adapting, loss {loss:.3f}")
                progress.finished = progress.total_steps == self.settings.steps
                if progress.finished or self.signal or progress.total_steps % KEPT == 0:
                    state = checkpoint.copy_state(self.out, progress, self.student, optimizer, average)
                    checkpoint.write_state(state)
                    checkpoint.write_model(self.out, self.student, average)
        if self.calibration is not None:
            self.calibration.save(self.out)
        after = None
        if progress.finished:
            self.student.load_state_dict(average, strict=False)
            after = self._measure(self.student, tests)
        return AdaptReport(self.out, before, after, self.recordings.failures, self.signal)

    def _stop(self, number: int) -> None:
        self.signal = number

    # Sound

    def _draw(self, step: int, *, augmented: bool = True) -> _Batch:
        """Return the sound of a step; negative steps are for measuring."""
        settings = self.settings
        rng = np.random.default_rng((settings.seed, int(step < 0), abs(step)))
        length, kinds = round(settings.seconds * SAMPLE_RATE), len(self.recordings.folders) + 1
        blocks = LIVE if rng.random() < settings.live else FILE
        chosen = rng.integers(kinds, size=settings.rows)
        waves = [self.recordings.draw(int(kind), length + SAMPLE_RATE, rng) for kind in chosen]
        if augmented:
            waves = [self.augment(wave, str(row), step) for row, wave in enumerate(waves)]
        waves = [np.pad(wave[:length], (0, max(0, length - len(wave)))) for wave in waves]
        longest = min(5.0, settings.seconds, self.student.config.max_seconds)
        window = WINDOW if rng.random() < 0.75 else rng.uniform(min(0.8, longest), longest)
        count = int(settings.seconds / HOP)
        steps = [rng.choice(count, min(settings.windows, count), replace=False) for _ in waves]
        centers = np.round((np.concatenate(steps) + 0.5) * HOP * SAMPLE_RATE).astype(np.int64)
        half = round(min(window, longest) * SAMPLE_RATE / 2)
        edges = np.stack([np.maximum(0, centers - half), np.minimum(length, centers + half)], axis=1)
        return _Batch(waves, chosen, np.repeat(np.arange(len(waves)), len(steps[0])), edges, blocks)

    # Predictions: values (window, target + 3) and pooled frames (window, 2 * feature)

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bf16-mixed"
        return torch.autocast(self.student.device.type, torch.bfloat16, enabled=enabled)

    def _encode(self, model: EmiModel, waves: Sequence[Wave], reach: int | None) -> tuple[Tensor, Tensor]:
        """Return hidden states and frame mask of sounds of one length."""
        clips = [model.clip_format.prepare(wave).samples for wave in waves]
        with self._autocast():
            hidden, frames = model.encode(*model.collate(clips), reach)
        return hidden.float(), frames

    def _predict_exactly(
        self, model: EmiModel, batch: _Batch, chosen: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Predict each chosen window as a clip of its own."""
        lengths = np.diff(batch.edges[chosen], axis=1)[:, 0]
        values: dict[int, tuple[Tensor, Tensor]] = {}
        for length in np.unique(lengths):
            group = np.flatnonzero(lengths == length)
            cuts = [batch.waves[batch.rows[chosen[i]]][slice(*batch.edges[chosen[i]])] for i in group]
            output: Any = model.regress(*self._encode(model, cuts, None))
            vad = [output.vad.mean(dim=1)] if model.config.predicts_vad else []
            joined = torch.cat([output.intensities, *vad], dim=1)
            values |= {int(i): (joined[n], output.pooled[n]) for n, i in enumerate(group)}
        ordered = [values[i] for i in range(len(chosen))]
        return torch.stack([value for value, _ in ordered]), torch.stack([pooled for _, pooled in ordered])

    def _predict_once(self, model: EmiModel, batch: _Batch) -> tuple[Tensor, Tensor]:
        """Predict all windows from one pass over each row."""
        reach = max(1, round(float(np.diff(batch.edges).max()) / 2 / self.hop))
        hidden = torch.cat(list(self._encode_blocks(model, batch, reach)), dim=1)
        frames = torch.from_numpy(np.ceil((batch.edges - self.first) / self.hop).astype(np.int64))
        ends = frames[:, 1].clamp(1, hidden.shape[1])
        starts = torch.minimum(frames[:, 0].clamp(min=0), ends - 1)
        windows = Windows(*(part.to(hidden.device) for part in (torch.from_numpy(batch.rows), starts, ends)))
        real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        output: Any = regress_windows(model, hidden, real, windows)
        vad = [output.vad_means] if model.config.predicts_vad else []
        return torch.cat([output.intensities, *vad], dim=1), output.pooled

    def _encode_blocks(self, model: EmiModel, batch: _Batch, reach: int) -> Iterator[Tensor]:
        """Yield the own frames of each block of all rows, (row, frame, feature), as `OnePass` encodes a recording."""
        length = len(batch.waves[0])
        advance, before, after = (
            int(part * SAMPLE_RATE / self.hop) * self.hop
            for part in (batch.blocks.advance, batch.blocks.before, batch.blocks.after)
        )
        for start in range(0, length, advance):
            cut = slice(max(0, start - before), min(length, start + advance + after))
            hidden, _ = self._encode(model, [wave[cut] for wave in batch.waves], reach)
            skipped = (start - cut.start) // self.hop
            last = start + advance >= length
            yield hidden[:, skipped : None if last else skipped + advance // self.hop]

    # Learning

    def _make_optimizer(self) -> torch.optim.AdamW:
        groups = [(self.lower, FAST), (self.upper, 1.0)]
        parts = [{"params": list(part.values()), "factor": factor} for part, factor in groups if part]
        return torch.optim.AdamW(parts, self.settings.lr, betas=(0.9, 0.98), fused=True)

    @torch.no_grad()
    def _compute_scales(self) -> tuple[Tensor, Tensor]:
        """Return the standard deviations of values on the rows of each folder, (folder + 1, value), and of features."""
        kinds = len(self.recordings.folders) + 1
        values: list[list[Tensor]] = [[] for _ in range(kinds)]
        features = []
        for number in range(MEASURED):
            batch = self._draw(-1 - MEASURED - number, augmented=False)
            predicted, pooled = self._predict_exactly(self.teacher, batch, np.arange(len(batch.rows)))
            features.append(pooled)
            for value, row in zip(predicted, batch.rows, strict=True):
                values[batch.kinds[row]].append(value)
                values[-1].append(value)
        stds = [torch.stack(part if len(part) > 1 else values[-1]).std(dim=0) for part in values]
        return (torch.stack(stds).square() + FLOOR**2).sqrt(), torch.cat(features).std(dim=0) + 0.01

    def _compute_losses(self, batch: _Batch, scales: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss of the lower layers, by pooled frames alone, and that of all else."""
        scale = scales[0][torch.from_numpy(batch.kinds[batch.rows]).to(scales[0].device)]
        per_row = len(batch.rows) // len(batch.waves)
        chosen = np.flatnonzero(np.arange(len(batch.rows)) % per_row < self.settings.exact)
        with torch.no_grad():
            targets, pooled = self._predict_exactly(self.teacher, batch, np.arange(len(batch.rows)))
        once, once_pooled = self._predict_once(self.student, batch)
        alone, alone_pooled = self._predict_exactly(self.student, batch, chosen)

        def compare_pooled(x: Tensor, y: Tensor, is_chosen: Tensor) -> Tensor:
            """Return the mean squared difference of chosen features in standard deviations; 0 without any."""
            return (((x - y) / scales[1]).square() * is_chosen).sum(dim=1).mean() / is_chosen.sum().clamp(
                min=1
            )

        lower = compare_pooled(once_pooled, pooled, self.is_lower)
        lower = lower + compare_pooled(alone_pooled, pooled[chosen], self.is_lower)
        lower = lower + compare_pooled(alone_pooled, once_pooled[chosen], self.is_lower)
        loss = _compare(once, targets, scale)
        loss = (
            loss
            + _compare(alone, targets[chosen], scale[chosen])
            + _compare(alone, once[chosen], scale[chosen])
        )
        for x, y in ((once_pooled, pooled), (alone_pooled, pooled[chosen])):
            loss = loss + UPPER * compare_pooled(x, y, ~self.is_lower)
        return lower, loss

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        average: dict[str, Tensor],
        scales: tuple[Tensor, Tensor],
        step: int,
    ) -> float:
        """Take a step; return its loss."""
        lower, loss = self._compute_losses(self._draw(step), scales)
        for part, part_loss in ((self.lower, lower), (self.upper, loss)):
            if part:
                parameters = list(part.values())
                gradients = torch.autograd.grad(part_loss, parameters, retain_graph=part is self.lower)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        rate = min(1.0, (step + 1) / WARMUP) * (
            0.03 + 0.485 * (1 + np.cos(np.pi * step / self.settings.steps))
        )
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * self.settings.lr * rate
        optimizer.step()
        decay = min(self.settings.average, (step + 1) / (step + 10))
        for name, parameter in self.trained.items():
            average[name].lerp_(parameter.detach(), 1 - decay)
        return float((lower + loss).detach())

    @torch.no_grad()
    def _measure(self, model: EmiModel, batches: Sequence[_Batch]) -> Agreement:
        """Return the agreement of a model's two ways."""
        names = [*model.config.targets, *(VAD if model.config.predicts_vad else [])]
        once = torch.cat([self._predict_once(model, batch)[0] for batch in batches])
        alone = [self._predict_exactly(model, batch, np.arange(len(batch.rows)))[0] for batch in batches]
        pairs = list(zip(names, once.T.double(), torch.cat(alone).T.double(), strict=True))
        return Agreement(
            {name: float(torch.corrcoef(torch.stack([x, y]))[0, 1]) for name, x, y in pairs},
            {name: float((x - y).square().mean().sqrt()) for name, x, y in pairs},
        )


def _choose_parameters(model: EmiModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Let a model's encoder layers, poolings and regression head learn; convolutions and linear heads stay.

    Returns:
        The parameters of the layers up to the last one in `probe_layers`, and the others, by name.
    """
    encoder: Any = model.encoder
    is_whisper = model.config.encoder_config.model_type == "whisper"
    layers = encoder.layers if is_whisper else encoder.encoder.layers
    count = max(model.config.probe_layers or [0])
    used = max(model.config.hidden_layers or [len(layers)])
    for module in (*layers[:used], *(getattr(model, name, None) for name in ("attention", "lstm", "head"))):
        if module is not None:
            module.requires_grad_(True)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    ids = {id(parameter) for layer in layers[:count] for parameter in layer.parameters()}
    lower = {name: parameter for name, parameter in named.items() if id(parameter) in ids}
    return lower, {name: parameter for name, parameter in named.items() if name not in lower}


def _compare(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return the mean squared difference in standard deviations; beyond one it grows linearly."""
    squared = ((x - y).square() + 1e-12) / scale.square()
    return torch.where(squared < 1, squared, 2 * squared.sqrt() - 1).mean()
