"""Small baselines with random weights, clips for them, and common checks."""

from typing import Any

import feature_corpora as made
import numpy as np
import torch

from emimic.baselines.inputs import Clip
from emimic.baselines.model import BaselineConfig, BaselineModel
from emimic.task import EMOTIONS

Array = np.ndarray

ROLES = {
    "baseline": ("vision", "audio"),
    "savchenko": ("face", "audio"),
    "yu": ("face", "units", "audio"),
    "zhang": ("face", "audio", "text"),
    "vision_lstm": ("vision", "audio"),
    "semantic_matters": ("text", "audio", "face"),
    "text_anchored": ("text", "audio", "face"),
    "wavlm_tcn": ("audio",),
    "concatenated": ("text", "audio", "face"),
}
"""What each system reads in these tests."""

SMALL: dict[str, dict[str, Any]] = {
    "baseline": {"units": 8},
    "savchenko": {},
    "yu": {"units": 8, "blocks": 2, "layers": 1},
    "zhang": {"units": 8, "layers": 1, "folds": 2},
    "vision_lstm": {},
    "semantic_matters": {"head_units": 8, "face_units": 6},
    "text_anchored": {"units": 8, "heads": 2},
    "wavlm_tcn": {"units": 8, "blocks": 2, "pooling_units": 4, "group": 3},
    "concatenated": {"units": 8},
}
"""Its options in these tests."""


def baseline(name: str, roles: tuple[str, ...], *, seed: int = 0, **options: Any) -> BaselineModel:
    """A small one with random weights, norms and biases too, in evaluation mode."""
    torch.manual_seed(seed)
    config = BaselineConfig(
        baseline=name, options=options, modalities=made.modalities(*roles), sizes={r: made.SIZES[r] for r in roles},
        targets=list(EMOTIONS),
    )  # fmt: skip
    model = BaselineModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def clip(seed: int, roles: tuple[str, ...], frames: dict[str, int] | None = None) -> Clip:
    """A random clip; of the faces some frames aren't there."""
    rng = np.random.default_rng(seed)
    parts, masks = {}, {}
    for role in roles:
        count = (frames or {}).get(role, int(rng.integers(1, 40)))
        mask = rng.random(count) < (0.7 if role in ("face", "units", "vision") else 1.1)
        mask[rng.integers(count)] = True
        parts[role] = np.where(mask[:, None], rng.standard_normal((count, made.SIZES[role])), 0.0).astype(
            np.float32
        )
        masks[role] = mask
    return Clip(parts, masks)


def weights(model: BaselineModel) -> dict[str, Array]:
    return {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}


def draw_inputs(one: Clip) -> dict[str, tuple[Array, Array, Array]]:
    """Role -> a clip's frames, which of them are there, and those alone; in double precision."""
    return {
        role: (part.astype(np.float64), one.masks[role], part[one.masks[role]].astype(np.float64))
        for role, part in one.parts.items()
    }


def drop(one: Clip, role: str) -> Clip:
    """A clip without one of its modalities, as the reader gives it."""
    return Clip(
        {**one.parts, role: np.zeros((1, made.SIZES[role]), np.float32)},
        {**one.masks, role: np.zeros(1, np.bool_)},
    )


def says(model: BaselineModel, one: Clip, wanted: Array) -> None:
    np.testing.assert_allclose(model.predict([one])[0].intensities, wanted, atol=3e-6)


def ignores_padding(model: BaselineModel, roles: tuple[str, ...]) -> None:
    """Each clip's prediction is the same alone, beside longer clips, and with more frames that are not there."""
    clips = [clip(seed, roles) for seed in range(7)]
    alone = [model.predict([one])[0].intensities for one in clips]
    together = [output.intensities for output in model.predict(clips)]
    np.testing.assert_allclose(together, alone, atol=2e-6)
    rubbish = np.random.default_rng(1)
    for one, wanted in zip(clips, alone, strict=True):
        parts, masks = model.collate([one])
        for role in roles:
            more = torch.from_numpy(rubbish.standard_normal((1, 9, made.SIZES[role]))).float()
            parts[role] = torch.cat([parts[role], 1e3 * more], dim=1)
            masks[role] = torch.cat([masks[role], torch.zeros(1, 9, dtype=torch.bool)], dim=1)
        with torch.inference_mode():
            actual = model.regress(parts, masks).intensities[0].numpy()
        np.testing.assert_allclose(actual, wanted, atol=2e-6)
    assert np.abs(np.diff(alone, axis=0)).max(axis=1).min() > 1e-4  # the input counts
