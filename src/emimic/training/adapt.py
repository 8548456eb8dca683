"""`emimic adapt`: a copy of a model learns frames that are the same in a window and in the recording around it.

A model that learned from clips has never met sound beyond a window's edges, nor a clip that doesn't start at the
encoder's first position. The copy of one on Whisper's encoder has no positions (`model.relative`). It learns from
recordings without labels. Its targets are the model's own hidden states in windows that are cut out as clips, frame by
frame, less what their position in the clip adds. It meets each window twice, as a clip and with sound on either side.
Frames say much more than predictions do: by these alone, joy of Amharic speech fell from .77 to .67 (docs/log.md).
"""

import copy
import dataclasses
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
from emimic.files import hold, make_folder, write_atomically
from emimic.inference.grid import WINDOW
from emimic.inference.passes import FILE, Blocks
from emimic.model import encoders, whisper
from emimic.model.loading import check_folder
from emimic.model.model import EmiModel
from emimic.model.relative import make_relative
from emimic.model.windows import Windows, regress_windows
from emimic.progress import make_bar
from emimic.task import SAMPLE_RATE, VAD, ModelError, SettingsError
from emimic.training import adapt_folder, checkpoint, signals
from emimic.training.adapt_losses import LEAST, Scales, compare, compute_moments
from emimic.training.adapt_report import AdaptReport, Agreement
from emimic.training.adapt_rows import SAMPLES, Wave, read_recordings
from emimic.training.adapt_settings import AdaptSettings
from emimic.training.process import flush_denormals, use_threads

HOP: Final = 0.2
"""Seconds between two centers of windows, as in a timeline."""
CONTEXT: Final = 0.7
"""Seconds of sound on either side of a window, at most."""
MEASURED: Final = 16
"""Steps' rows that scale the differences, and as many again that measure the agreement."""
KEPT: Final = 100
"""Steps between two saves."""
WARMUP: Final = 60
MOMENTS: Final = 0.75
"""Weights of means and standard deviations of a window's frames, beside the frames themselves."""
PREDICTIONS: Final = 0.3
"""Weight of predictions."""
DIFFERENCE: Final = 0.67
"""Weight of the difference between both ways."""
HEADS: Final = 0.3
"""Learning rate of poolings and regression head, in that of the encoder's layers."""
BIASES: Final = 30.0
"""Learning rate of relative positions, whose values are much larger than weights."""


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
    check_folder(run)
    adapt_folder.check(out, resume=resume)
    make_folder(out)
    with hold(out / checkpoint.LOCK) as locked:
        if not locked:
            raise SettingsError(
                f"{out} is in use: another process writes to it. Wait for it, or name another"
            )
        checkpoint.sweep(out, SAMPLES)
        settings = adapt_folder.read_settings(run, out, settings)
        with flush_denormals(), use_threads(None):
            adapting = _Adapting(run, folders, out, settings, show)
            if (run / checkpoint.SETTINGS).exists():  # how the run was trained, and so its license
                write_atomically(out / checkpoint.SETTINGS, (run / checkpoint.SETTINGS).read_bytes())
            return adapting.work()


@dataclass(frozen=True)
class _Batch:
    """Rows of sound; kinds: the folder of each. Windows of them: rows (window,), and edges in samples (window, 2)."""

    waves: list[Wave]
    kinds: NDArray[np.int64]
    rows: NDArray[np.int64]
    edges: NDArray[np.int64]


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
        self.calibration = Calibration.find_in_run(run, config.targets)
        self.hop = encoders.compute_hop(config.encoder_config)
        self.first = float(encoders.compute_frame_times(config.encoder_config, 1)[0]) * SAMPLE_RATE
        window = min(WINDOW, config.max_seconds, settings.seconds - 2 * CONTEXT - HOP)
        self.window = round(window * SAMPLE_RATE / self.hop) * self.hop
        self.augment = Augment(settings.augment, settings.seed, settings.codec)
        self.recordings = read_recordings(folders, out, workers=count_available(), show=show)
        self.signal: int | None = None

    def work(self) -> AdaptReport:
        """Train, save, and measure the agreement."""
        tests = [self._draw(-1 - n) for n in range(MEASURED)]
        before = self._measure(self.teacher, tests)
        self._start()
        if self.calibration is not None:
            self.calibration.save(self.out)
        optimizer = self._make_optimizer()
        progress, average = checkpoint.Progress(), {n: p.detach().clone() for n, p in self.trained.items()}
        if (self.out / checkpoint.LAST).exists():
            progress, stored = checkpoint.read_last(self.out, self.student, optimizer)
            average = stored or average
        with signals.handle(self._stop), make_bar(show=self.show) as bar:
            task = bar.add_task("adapting", total=self.settings.steps, completed=progress.total_steps)
            while progress.total_steps < self.settings.steps and self.signal is None:
                loss = self._step(optimizer, average, progress.total_steps)
                progress.total_steps += 1
                if not np.isfinite(loss):
                    raise SettingsError(
                        f"{self.out}: the loss is {loss} in step {progress.total_steps}. Start again in another "
                        f"folder with a lower lr than {self.settings.lr:g}"
                    )
                bar.update(task, advance=1, description=f"adapting, loss {loss:.3f}")
                progress.finished = progress.total_steps == self.settings.steps
                if progress.finished or self.signal or progress.total_steps % KEPT == 0:
                    state = checkpoint.copy_state(self.out, progress, self.student, optimizer, average)
                    # First: after a kill between the two, a resumed run writes it again.
                    checkpoint.write_model(self.out, self.student, average)
                    checkpoint.write_state(state)
        after = None
        if progress.finished:
            self.student.load_state_dict(average, strict=False)
            after = self._measure(self.student, tests)
        stopped = None if progress.finished else self.signal
        return AdaptReport(self.out, before, after, self.recordings.failures, stopped)

    def _stop(self, number: int) -> None:
        self.signal = number

    def _start(self) -> None:
        """Make the copy, choose what learns, and measure the scales."""
        batches = [self._draw(-1 - MEASURED - number) for number in range(MEASURED)]
        config = self.teacher.config
        if _has_positions(self.teacher):
            clips = [wave for batch in batches for wave in self._cut(batch)]
            made = make_relative(self.teacher, self._collate(clips)[0], self.settings.reach)
            self.student, self.offsets = made.model, made.offsets
        else:
            self.student = copy.deepcopy(self.teacher)
            frames = self.teacher.count_frames(self.window)
            self.offsets = torch.zeros(frames, config.hidden_features, device=self.teacher.device)
        self.student.config.frozen_layers = 0
        self.trained = _choose_parameters(self.student)
        self.scales = self._compute_scales(batches)

    # Sound

    def _draw(self, step: int) -> _Batch:
        """Return the sound of a step, augmented, and windows in it; negative steps, without, are for measuring."""
        settings = self.settings
        rng = np.random.default_rng((settings.seed, int(step < 0), abs(step)))
        length, kinds = round(settings.seconds * SAMPLE_RATE), len(self.recordings.folders) + 1
        chosen = rng.integers(kinds, size=settings.rows)
        waves = [self.recordings.draw(int(kind), length + SAMPLE_RATE, rng) for kind in chosen]
        if step >= 0:
            waves = [self.augment(wave, str(row), step) for row, wave in enumerate(waves)]
        waves = [np.pad(wave[:length], (0, max(0, length - len(wave)))) for wave in waves]
        margin = round(CONTEXT * SAMPLE_RATE / self.hop)
        count = (length - self.window) // self.hop - 2 * margin
        starts = np.concatenate([margin + rng.choice(count, settings.windows, replace=False) for _ in waves])
        edges = starts[:, None] * self.hop + np.array([0, self.window])
        return _Batch(waves, chosen, np.repeat(np.arange(len(waves)), settings.windows), edges)

    def _cut(self, batch: _Batch, before: int = 0, after: int = 0) -> list[Wave]:
        """Return the windows' sound, with samples of context on either side."""
        pairs = zip(batch.rows, batch.edges, strict=True)
        return [batch.waves[row][start - before : end + after] for row, (start, end) in pairs]

    # Predictions: values (window, target + 3)

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bf16-mixed"
        return torch.autocast(self.teacher.device.type, torch.bfloat16, enabled=enabled)

    def _collate(self, waves: Sequence[Wave]) -> tuple[Tensor, Tensor]:
        # With context, sounds may be longer than the model's longest clip.
        uncut = dataclasses.replace(self.teacher.clip_format, max_seconds=None)
        values, mask = self.teacher.collate([uncut.prepare(wave).samples for wave in waves])
        return values, mask

    def _encode(self, model: EmiModel, waves: Sequence[Wave], reach: int | None = None) -> Tensor:
        """Return hidden states of sounds of one length, (sound, frame, feature)."""
        with self._autocast():
            hidden, _ = model.encode(*self._collate(waves), reach)
        return hidden.float()

    def _regress(self, model: EmiModel, hidden: Tensor) -> Tensor:
        """Return the values of windows from their frames."""
        output: Any = model.regress(
            hidden, torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        )
        vad = [output.vad.mean(dim=1)] if model.config.predicts_vad else []
        return torch.cat([output.intensities, *vad], dim=1)

    def _predict_once(self, model: EmiModel, batch: _Batch, blocks: Blocks = FILE) -> Tensor:
        """Predict all windows from one pass over each row, in blocks."""
        reach = max(1, round(self.window / 2 / self.hop))
        hidden = torch.cat(list(self._encode_blocks(model, batch, blocks, reach)), dim=1)
        frames = torch.from_numpy(np.ceil((batch.edges - self.first) / self.hop).astype(np.int64))
        ends = frames[:, 1].clamp(1, hidden.shape[1])
        starts = torch.minimum(frames[:, 0].clamp(min=0), ends - 1)
        windows = Windows(*(part.to(hidden.device) for part in (torch.from_numpy(batch.rows), starts, ends)))
        real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        output: Any = regress_windows(model, hidden, real, windows)
        vad = [output.vad_means] if model.config.predicts_vad else []
        return torch.cat([output.intensities, *vad], dim=1)

    def _encode_blocks(self, model: EmiModel, batch: _Batch, blocks: Blocks, reach: int) -> Iterator[Tensor]:
        """Yield the own frames of each block of all rows, (row, frame, feature), as `OnePass` encodes a recording."""
        for cut, own in blocks.split(len(batch.waves[0]), self.hop, model.config.max_seconds):
            yield self._encode(model, [wave[cut] for wave in batch.waves], reach)[:, own]

    # Learning

    def _make_optimizer(self) -> torch.optim.AdamW:
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in self.trained.items():
            is_bias = name == "encoder.relative_bias"
            factor = BIASES if is_bias else 1.0 if name.startswith("encoder.") else HEADS
            groups.setdefault(factor, []).append(parameter)
        parts = [{"params": part, "factor": factor} for factor, part in groups.items()]
        return torch.optim.AdamW(parts, self.settings.lr, betas=(0.9, 0.98), fused=True)

    @torch.no_grad()
    def _compute_scales(self, batches: Sequence[_Batch]) -> Scales:
        """Measure the scales on rows of all folders."""
        values: list[list[Tensor]] = [[] for _ in range(len(self.recordings.folders) + 1)]
        variances, moments = [], []
        for batch in batches:
            hidden = self._encode(self.teacher, self._cut(batch))
            for value, row in zip(self._regress(self.teacher, hidden), batch.rows, strict=True):
                values[batch.kinds[row]].append(value)
                values[-1].append(value)
            hidden = hidden - self.offsets
            variances.append(hidden.flatten(0, 1).var(dim=0))
            moments.append(compute_moments(hidden))
        variance = torch.stack(variances).mean(dim=0).clamp(min=1e-3)
        least = torch.cat([0.02 * variance, 0.005 * variance])
        stds = [torch.stack(part if len(part) > 1 else values[-1]).std(dim=0) for part in values]
        return Scales(
            variance.sqrt(),
            (torch.cat(moments).var(dim=0) + least).sqrt(),
            (torch.stack(stds).square() + LEAST**2).sqrt(),
        )

    def _compute_loss(self, batch: _Batch, before: int, after: int) -> Tensor:
        """Return the loss of windows as clips, of the same with frames of context on either side, and between both."""
        with torch.no_grad():
            hidden = self._encode(self.teacher, self._cut(batch))
            wanted = self._regress(self.teacher, hidden)
            targets = hidden - self.offsets
        scale = self.scales.values[torch.from_numpy(batch.kinds[batch.rows]).to(hidden.device)]
        loss = torch.zeros((), device=hidden.device)
        ways = []
        for first, last in ((0, 0), (before, after)):
            cuts = self._cut(batch, first * self.hop, last * self.hop)
            own = self._encode(self.student, cuts)[:, first : first + targets.shape[1]]
            moments, values = compute_moments(own), self._regress(self.student, own)
            loss = loss + ((own - targets) / self.scales.frames).square().mean() / 2
            loss = loss + MOMENTS * self._compare_moments(moments, compute_moments(targets))
            loss = loss + PREDICTIONS / 2 * compare(values, wanted, scale)
            ways.append((moments, values))
        (alone, values), (within, others) = ways
        return loss + DIFFERENCE * (self._compare_moments(alone, within) + compare(values, others, scale))

    def _compare_moments(self, x: Tensor, y: Tensor) -> Tensor:
        return ((x - y) / self.scales.moments).square().mean()

    def _step(self, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], step: int) -> float:
        """Take a step; return its loss."""
        rng = np.random.default_rng((self.settings.seed, 2, step))
        before, after = (int(n) for n in rng.integers(1, round(CONTEXT * SAMPLE_RATE / self.hop) + 1, 2))
        loss = self._compute_loss(self._draw(step), before, after)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), 2.0)
        rate = min(1.0, (step + 1) / WARMUP) * (
            0.03 + 0.485 * (1 + np.cos(np.pi * step / self.settings.steps))
        )
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * self.settings.lr * rate
        optimizer.step()
        decay = min(self.settings.average, (step + 1) / (step + 10))
        for name, parameter in self.trained.items():
            average[name].lerp_(parameter.detach(), 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def _measure(self, model: EmiModel, batches: Sequence[_Batch]) -> Agreement:
        """Return the agreement of a model's two ways."""
        names = [*model.config.targets, *(VAD if model.config.predicts_vad else [])]
        once = torch.cat([self._predict_once(model, batch) for batch in batches])
        alone = [self._regress(model, self._encode(model, self._cut(batch))) for batch in batches]
        pairs = list(zip(names, once.T.double(), torch.cat(alone).T.double(), strict=True))
        return Agreement(
            {name: float(torch.corrcoef(torch.stack([x, y]))[0, 1]) for name, x, y in pairs},
            {name: float((x - y).square().mean().sqrt()) for name, x, y in pairs},
        )


def _has_positions(model: EmiModel) -> bool:
    config = model.config.encoder_config
    return bool(config.model_type == "whisper") and whisper.get_relative_frames(config) is None


def _choose_parameters(model: EmiModel) -> dict[str, Tensor]:
    """Let a model's encoder layers, poolings and regression head learn; convolutions and linear heads stay.

    In the first half of the layers only what frames attend to learns, and one value a feature: these layers serve any
    language, and would come to know only the voices of the recordings.
    """
    model.requires_grad_(False)
    encoder: Any = model.encoder
    is_whisper = model.config.encoder_config.model_type == "whisper"
    layers = encoder.layers if is_whisper else encoder.encoder.layers
    used = max(model.config.hidden_layers or [len(layers)])
    for module in (*layers[:used], *(getattr(model, name, None) for name in ("attention", "lstm", "head"))):
        if module is not None:
            module.requires_grad_(True)
    for layer in layers[: len(layers) // 2]:
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(parameter.ndim == 1 or "q_proj" in name or "k_proj" in name)
    if hasattr(encoder, "relative_bias"):
        encoder.relative_bias.requires_grad_(True)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
