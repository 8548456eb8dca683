"""Each compared system's forward equals a formula written again, ignores padding, and does without a modality."""

import layer_formulas
import numpy as np
import pytest
import torch
from tiny_baselines import ROLES, Array, baseline, clip, draw_inputs, drop, ignores_padding, says, weights

from emimic.baselines.inputs import Clip
from emimic.baselines.system import NAMES, get_system
from emimic.features import store
from emimic.task import EMOTIONS
from emimic.training import losses
from emimic.training import setup as runs
from emimic.training.settings import TrainSettings
from emimic.training.step import add_l2


def test_baseline() -> None:
    roles = ("vision", "audio")
    model = baseline("baseline", roles, units=5)
    ignores_padding(model, roles)
    w, one = weights(model), clip(3, roles)
    x = {role: frames for role, (_, _, frames) in draw_inputs(one).items()}
    vision = layer_formulas.linear(
        layer_formulas.last(
            x["vision"], layer_formulas.under(w, "branches.vision.0.encoders.vision.gru."), layers=3
        ),
        w,
        "branches.vision.0.output.",
    )
    audio = layer_formulas.linear(x["audio"].mean(axis=0), w, "branches.audio.0.output.")
    says(model, one, (vision + audio) / 2)
    says(model, drop(one, "vision"), audio)
    says(model, drop(one, "audio"), vision)


def test_savchenko() -> None:
    roles = ("face", "audio")
    model = baseline("savchenko", roles)
    ignores_padding(model, roles)
    w, one = weights(model), clip(3, roles)
    branch_outputs = {}
    for role, (_, _, x) in draw_inputs(one).items():
        parts = np.concatenate([x.mean(0), np.sqrt(x.var(0) + 1e-5), x.min(0), x.max(0)])
        branch_outputs[role] = layer_formulas.sigmoid(
            layer_formulas.linear(parts, w, f"branches.{role}.0.output.0.")
        )
    says(model, one, (branch_outputs["face"] + branch_outputs["audio"]) / 2)
    model.config.weights = {"face": [0.1] * 6, "audio": [0.9] * 6}
    says(model, one, 0.1 * branch_outputs["face"] + 0.9 * branch_outputs["audio"])
    says(model, drop(one, "audio"), branch_outputs["face"])


def test_yu() -> None:
    roles = ("face", "units", "audio")
    model = baseline("yu", roles, units=8, blocks=2, layers=2, heads=2)
    ignores_padding(model, roles)
    w, one = weights(model), clip(3, roles)

    def wanted(one: Clip) -> dict[str, Array]:
        parts = {}
        for role, (x, present, _) in draw_inputs(one).items():
            name = "audio" if role == "audio" else "vision"
            own = layer_formulas.under(w, f"branches.{name}.0.encoders.{role}.")
            hidden = layer_formulas.tcn(x, present, layer_formulas.under(own, "tcn."), blocks=2)
            if name == "vision":
                hidden = layer_formulas.attention(
                    hidden, present, layer_formulas.under(own, "attention."), layers=2, heads=2
                )
            parts[role] = layer_formulas.mean(hidden[present])
        vision = np.concatenate([parts["face"], parts["units"]])
        return {
            "vision": layer_formulas.linear(vision, w, "branches.vision.0.output."),
            "audio": layer_formulas.linear(parts["audio"], w, "branches.audio.0.output."),
        }

    branch_outputs = wanted(one)
    says(model, one, (branch_outputs["vision"] + branch_outputs["audio"]) / 2)
    says(model, drop(one, "audio"), branch_outputs["vision"])
    says(model, drop(drop(one, "face"), "units"), branch_outputs["audio"])
    branch_outputs = wanted(drop(one, "units"))
    says(model, drop(one, "units"), (branch_outputs["vision"] + branch_outputs["audio"]) / 2)


def test_zhang() -> None:
    roles = ("face", "audio", "text")
    model = baseline("zhang", roles, units=8, layers=2, heads=2, folds=2)
    ignores_padding(model, roles)
    w = weights(model)
    for one in (clip(3, roles), *(drop(clip(4, roles), role) for role in roles)):
        votes = []
        for fold in range(2):
            own, parts = layer_formulas.under(w, f"branches.fused.{fold}."), []
            for role in roles:
                x, present, _ = draw_inputs(one)[role]
                hidden = layer_formulas.attention(
                    x, present, layer_formulas.under(own, f"encoders.{role}.encoder."), layers=2, heads=2
                )
                parts.append(layer_formulas.mean(hidden[present]))  # 0 without any
            votes.append(layer_formulas.linear(np.concatenate(parts), own, "output."))
        says(model, one, np.mean(votes, axis=0))


COMMON = {
    "loss": {"mse": 1.0}, "lr": 1e-4, "encoder_lr": None, "rates": {}, "betas": (0.9, 0.999), "weight_decay": 0.01,
    "l2": 0.0,
    "schedule": "cosine", "warmup_epochs": 1.0, "epochs": 30, "batch_size": 32, "patience": 5, "ema": None,
    "standardize_targets": False, "max_seconds": 12.0, "clip_value": 100.0,
}  # fmt: skip
"""The paper's training, which goes for what a system's source leaves open."""

TRAINING = {
    "baseline": {},
    "savchenko": {
        "loss": {"pearson": 1.0}, "lr": 1e-3, "weight_decay": 0.0, "l2": 1 / 512, "schedule": "constant",
        "warmup_epochs": 0.0, "epochs": 100, "batch_size": 512, "patience": None,
    },
    "yu": {},
    "zhang": {
        "lr": 1e-6, "rates": {"audio": 1e-4, "text": 1e-4}, "betas": (0.0, 0.99), "weight_decay": 0.0,
        "schedule": "restarts", "warmup_epochs": 0.0, "epochs": 35, "patience": None,
    },
    "vision_lstm": {},
    "semantic_matters": {},
    "text_anchored": {},
    "wavlm_tcn": {"encoder_lr": 1e-5, "epochs": 10, "standardize_targets": True, "max_seconds": 20.0},
    "concatenated": {"loss": {"mse": 1.0, "pearson": 1.0}, "ema": 0.999, "batch_size": 64},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_is_trained_as_its_source_says(name: str) -> None:
    chosen = TrainSettings.read(overrides={"baseline": name})
    actual = {key: getattr(chosen, key) for key in COMMON}
    assert {key: value for key, value in actual["loss"].items() if value} == (COMMON | TRAINING[name])["loss"]
    assert {**actual, "loss": None} == {**COMMON, **TRAINING[name], "loss": None}
    assert get_system(name).options().fusion == ("global" if name == "savchenko" else "mean")


@pytest.mark.parametrize(
    ("roles", "folds"), [(("audio",), 1), (("face", "audio"), 1), (("face", "audio"), 3)]
)
def test_the_l2_of_a_branch_stands_beside_its_own_loss(roles: tuple[str, ...], folds: int) -> None:
    """A step of all branches is 1 / (branches x folds) of what each would do alone: loss + l2 x sum of squares."""
    model = baseline("savchenko", roles, folds=folds).train()
    clips = [clip(seed, roles) for seed in range(8)]
    labels = torch.rand(8, len(EMOTIONS), generator=torch.Generator().manual_seed(0))
    outputs = model.regress(*model.collate(clips)).intensities
    losses.compute_pearson_loss(outputs, labels.repeat(1, len(roles) * folds)).backward()
    add_l2(model, 1 / 512)
    parts, masks = model.collate(clips)
    for role in roles:
        for branch in model.branches[role]:
            dense = branch.output[0]
            actual = [parameter.grad.clone() for parameter in (dense.weight, dense.bias)]
            alone = (
                losses.compute_pearson_loss(branch(parts, masks), labels) + dense.weight.square().sum() / 512
            )
            wanted = torch.autograd.grad(alone, [dense.weight, dense.bias])
            for one, other in zip(actual, wanted, strict=True):
                torch.testing.assert_close(one * len(roles) * folds, other, atol=1e-6, rtol=1e-4)


def test_the_l2_of_the_papers_model_is_whole_and_of_matrices_alone() -> None:
    layer = torch.nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    before = [parameter.grad.clone() for parameter in layer.parameters()]
    add_l2(layer, 0.25)
    torch.testing.assert_close(layer.weight.grad - before[0], 0.5 * layer.weight.detach())
    torch.testing.assert_close(layer.bias.grad, before[1])


def test_zhang_learns_and_reads_as_published() -> None:
    roles = ("face", "audio", "text")
    chosen = TrainSettings.read(overrides={"baseline": "zhang"})
    model = baseline("zhang", roles, units=8)
    rates = {}
    optimizer = runs.make_optimizer(model, chosen)
    for group in optimizer.param_groups:
        assert group["betas"] == (0.0, 0.99)
        assert group["weight_decay"] == 0.0
        rates |= {id(parameter): group["peak"] for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        is_pretrained = ".encoders.audio." in name or ".encoders.text." in name
        assert rates[id(parameter)] == (1e-4 if is_pretrained else 1e-6)
    longer = store.Sequence.from_frames(np.zeros((400, 1), np.float32), np.arange(400.0))
    shorten = model.system.shorten(model.options)
    assert {role: len(cut(longer).values) for role, cut in shorten.items()} == {
        "face": 32,
        "audio": 320,
        "text": 128,
    }
    assert chosen.folds == 5


def test_ours_with_vision() -> None:
    roles = ("vision", "audio")
    model = baseline("vision_lstm", roles)
    ignores_padding(model, roles)
    ignores_padding(baseline("vision_lstm", ("vision",)), ("vision",))
    w = layer_formulas.under(weights(model), "branches.pooled.0.")
    for one in (clip(3, roles), *(drop(clip(4, roles), role) for role in roles)):
        parts = []
        for role, (_, _, x) in draw_inputs(one).items():
            parts += [
                layer_formulas.mean(x),
                layer_formulas.last(x, layer_formulas.under(w, f"encoders.{role}.last.lstm."), layers=2),
            ]
        hidden = np.tanh(layer_formulas.linear(np.concatenate(parts), w, "output.dense."))
        says(model, one, layer_formulas.linear(hidden, w, "output.out_proj."))
    assert TrainSettings.read(overrides={"baseline": "vision_lstm"}).encoder is None
    tuned = TrainSettings.read(overrides={"baseline": "vision_lstm", "modalities.audio": "waveform"})
    assert tuned.encoder == TrainSettings().encoder


def joined(parts: dict[str, Array], own: dict[str, Array]) -> Array:
    """Vectors side by side, a learned one where a modality is missing -> dense layer, ReLU -> predictions."""
    whole = np.concatenate([parts.get(role, own[f"missing.{role}"]) for role in ("text", "audio", "face")])
    return layer_formulas.linear(
        np.maximum(layer_formulas.linear(whole, own, "output.0."), 0), own, "output.3."
    )


def pooled(x: Array, own: dict[str, Array], *, std: bool) -> Array:
    parts = np.concatenate([x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-5)]) if std else x.mean(axis=0)
    return np.maximum(layer_formulas.linear(layer_formulas.norm(parts, own, "norm."), own, "dense."), 0)


def test_text_voice_and_face_side_by_side() -> None:
    roles = ROLES["concatenated"]
    model = baseline("concatenated", roles, units=8)
    ignores_padding(model, roles)
    own = layer_formulas.under(weights(model), "branches.joined.0.")
    for one in (clip(3, roles), *(drop(clip(4, roles), role) for role in roles)):
        parts = {}
        for role, (_, _, x) in draw_inputs(one).items():
            branch = layer_formulas.under(own, f"encoders.{role}.")
            if len(x):
                parts[role] = pooled(x, branch, std=True)
        says(model, one, joined(parts, own))


def test_modalities_are_dropped_while_learning() -> None:
    roles = ROLES["concatenated"]
    model = baseline("concatenated", roles, units=8, modality_dropout=0.6, dropout=0.0)
    one, own = clip(3, roles), layer_formulas.under(weights(model), "branches.joined.0.")
    torch.manual_seed(0)
    model.train()
    predictions = model.regress(*model.collate([one] * 64)).intensities.detach().numpy()
    parts = {}
    for role, (_, _, x) in draw_inputs(one).items():
        branch = layer_formulas.under(own, f"encoders.{role}.")
        parts[role] = pooled(x, branch, std=True)
    every = [
        joined({role: parts[role] for n, role in enumerate(roles) if kept >> n & 1}, own) for kept in range(8)
    ]
    which = [int(np.argmin([np.abs(row - one).max() for one in every])) for row in predictions]
    for row, kept in zip(predictions, which, strict=True):
        np.testing.assert_allclose(row, every[kept], atol=3e-6)
    assert len(set(which)) > 4
    assert 0.25 < np.mean([kept & 1 for kept in which]) < 0.55  # the text was kept in about .4 of them


def test_semantic_matters() -> None:
    roles = ROLES["semantic_matters"]
    model = baseline("semantic_matters", roles, head_units=9, face_units=7)
    ignores_padding(model, roles)
    own = layer_formulas.under(weights(model), "branches.joined.0.")
    for one in (clip(3, roles), *(drop(clip(4, roles), role) for role in roles)):
        x = {role: frames for role, (_, _, frames) in draw_inputs(one).items()}
        parts = [layer_formulas.mean(x["text"])]
        for role in ("audio", "face"):
            lstm = layer_formulas.under(own, f"encoders.{role}.lstm.")
            units = lstm["weight_hh_l0"].shape[1]
            parts.append(layer_formulas.last(x[role], lstm, layers=2) if len(x[role]) else np.zeros(units))
        hidden = np.tanh(layer_formulas.linear(np.concatenate(parts), own, "output.dense."))
        says(model, one, layer_formulas.linear(hidden, own, "output.out_proj."))
    assert [len(part) for part in parts] == [6, 12, 7]


def test_semantic_matters_has_the_sizes_of_its_code() -> None:
    system = get_system("semantic_matters")
    sizes = {"text": 768, "audio": 1027, "face": 1280}
    (network,) = system.branches(system.options(), sizes, 6).values()
    assert network.output.dense.weight.shape == (1027, 2563)
    assert network.output.out_proj.weight.shape == (6, 1027)
    assert network.encoders["audio"].lstm.hidden_size == 1027


def test_text_anchored() -> None:
    roles = ROLES["text_anchored"]
    model = baseline("text_anchored", roles, units=8, heads=2)
    ignores_padding(model, roles)
    own = layer_formulas.under(weights(model), "branches.joined.0.")

    def prepare(role: str, x: Array, present: Array) -> Array:
        if not present.any():
            return own[f"missing.{role}"][None]
        time = np.arange(len(x))[:, None] / 10_000 ** (np.arange(0, 8, 2) / 8)
        places = np.stack([np.sin(time), np.cos(time)], axis=-1).reshape(len(x), 8)
        return (layer_formulas.linear(x, own, f"encoders.{role}.") + places)[present]

    for one in (clip(3, roles), *(drop(clip(4, roles), role) for role in roles)):
        tokens = {role: prepare(role, x, present) for role, (x, present, _) in draw_inputs(one).items()}
        words = tokens["text"]
        parts = [words.mean(axis=0)]
        for role in ("audio", "face"):
            w, b = own[f"attention.{role}.in_proj_weight"], own[f"attention.{role}.in_proj_bias"]
            q, k, v = (
                x @ w[8 * i : 8 * i + 8].T + b[8 * i : 8 * i + 8]
                for i, x in enumerate((words, tokens[role], tokens[role]))
            )
            heads = []
            for part in (slice(0, 4), slice(4, 8)):
                scores = np.exp(q[:, part] @ k[:, part].T / 2)
                heads.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, part])
            attended = layer_formulas.linear(
                np.concatenate(heads, axis=1), own, f"attention.{role}.out_proj."
            )
            parts.append(layer_formulas.norm(words + attended, own, f"norms.{role}.").mean(axis=0))
        hidden = np.maximum(layer_formulas.linear(np.concatenate(parts), own, "output.0."), 0)
        says(model, one, layer_formulas.linear(hidden, own, "output.3."))
    ignores_padding(baseline("text_anchored", ("audio",), units=8, heads=2), ("audio",))


def test_wavlm_tcn() -> None:
    model = baseline("wavlm_tcn", ("audio",), units=8, blocks=3, pooling_units=4, group=4)
    ignores_padding(model, ("audio",))
    own = layer_formulas.under(weights(model), "branches.audio.0.")
    for seed in (3, 4, 5):
        one = clip(seed, ("audio",))
        x = one.parts["audio"].astype(np.float64)
        means = np.stack([x[start : start + 4].mean(axis=0) for start in range(0, len(x), 4)])
        present = np.ones(len(means), np.bool_)
        branch = layer_formulas.under(own, "encoders.audio.")
        hidden = layer_formulas.tcn(means, present, layer_formulas.under(branch, "tcn."), blocks=3)
        parts = layer_formulas.attentive_statistics(hidden, layer_formulas.under(branch, "pool."))
        says(model, one, layer_formulas.linear(parts, own, "output."))


def test_wavlm_tcn_learns_as_published() -> None:
    chosen = TrainSettings.read(overrides={"baseline": "wavlm_tcn"})
    assert (chosen.encoder, chosen.encoder_lr, chosen.lr) == ("microsoft/wavlm-large", 1e-5, 1e-4)
    assert (chosen.max_seconds, chosen.standardize_targets, chosen.batch_size) == (20.0, True, 32)
    frozen = TrainSettings.read(overrides={"baseline": "wavlm_tcn", "modalities.audio": "wavlm"})
    assert frozen.encoder is None
    other = TrainSettings.read(overrides={"baseline": "wavlm_tcn", "encoder": "somewhere"})
    assert other.encoder == "somewhere"
