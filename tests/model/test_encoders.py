"""Encoders against their formulas in NumPy, frame arithmetic against counting, SpecAugment against its fraction."""

import numpy as np
import pytest
import tiny_models
import torch
from transformers import AutoConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emimic.model import encoders, frontend, layers
from emimic.task import ModelError

ODD = {"conv_kernel": [7, 4, 2], "conv_stride": [3, 2, 2], "conv_dim": [8, 8, 8]}


def config(family, **changes):
    settings = tiny_models.encoder(family, **changes)
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def build(family, **changes):
    torch.manual_seed(0)
    made = encoders.build(config(family, **changes))
    tiny_models.scramble(made)
    return made.eval().double()


def run(encoder, *clips):
    longest = max(map(len, clips))
    samples = torch.zeros(len(clips), longest, dtype=torch.float64)
    mask = torch.zeros(len(clips), longest, dtype=torch.bool)
    for row, clip in enumerate(clips):
        samples[row, : len(clip)] = torch.from_numpy(clip)
        mask[row, : len(clip)] = True
    return encoders.encode(encoder, samples, mask)


def test_whispers_frames_attend_no_further_than_they_reach():
    """Two layers reach 2 * 3 frames; the convolutions, one mel frame more each way."""
    encoder = build("whisper")
    clip = tiny_models.clip(8000).astype(np.float64)
    other = clip.copy()
    other[20 * 320 :] *= 0.5
    mask = torch.ones(1, len(clip), dtype=torch.bool)
    with torch.no_grad():
        near, far = (
            [
                encoders.encode(encoder, torch.from_numpy(wave)[None], mask, reach=reach)[0][0]
                for wave in (clip, other)
            ]
            for reach in (3, None)
        )
        everything = encoders.encode(encoder, torch.from_numpy(clip)[None], mask, reach=25)[0][0]
    assert torch.equal(near[0][:12], near[1][:12])
    assert not torch.equal(near[0][14:], near[1][14:])
    assert not torch.equal(far[0][:12], far[1][:12])
    torch.testing.assert_close(everything, far[0])


# Against the formulas


@pytest.mark.parametrize("samples", [400, 719, 720, 2345, 6000])
@pytest.mark.parametrize("family", tiny_models.FORMULAS)
def test_an_encoder_equals_its_formula(family, samples):
    encoder = build(family)
    clip = tiny_models.clip(samples, seed=samples)
    with torch.no_grad():
        hidden, frames = run(encoder, clip)
    own = tiny_models.FORMULAS[family](tiny_models.weights(encoder), tiny_models.encoder(family), clip)
    assert hidden.shape == (1, *own.shape)
    assert frames.all()
    np.testing.assert_allclose(hidden[0], own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("family", ["wav2vec2-layer", "whisper"])
def test_padded_rows_equal_the_formula_too(family, eager):
    encoder = build(family)
    if eager:
        encoder.set_attn_implementation("eager")
    clips = [tiny_models.clip(n, seed=n) for n in (400, 4321, 880, 2000)]
    with torch.no_grad():
        hidden, frames = run(encoder, *clips)
    for clip, row, real in zip(clips, hidden, frames, strict=True):
        own = tiny_models.FORMULAS[family](tiny_models.weights(encoder), tiny_models.encoder(family), clip)
        assert real.sum() == len(own)
        assert real[: len(own)].all()
        np.testing.assert_allclose(row[: len(own)], own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["noise", "loud end", "loud start", "silence", "quiet"])
@pytest.mark.parametrize(
    ("samples", "bins"), [(400, 80), (560, 80), (16_000, 128), (16_123, 80), (192_000, 80), (479_000, 80)]
)
def test_log_mel_equals_whispers_own(samples, kind, bins):
    clip = tiny_models.clip(samples, seed=1)
    if kind == "silence":
        clip[:] = 0
    elif kind != "noise":
        clip *= 1e-3
        clip[{"loud end": slice(-30, None), "loud start": slice(30), "quiet": slice(0)}[kind]] += 3
    extractor = WhisperFeatureExtractor(feature_size=bins)
    theirs = extractor(clip, sampling_rate=16_000, return_tensors="np").input_features[0]
    # A longer neighbor in the batch changes nothing.
    rows = torch.zeros(2, samples + 1000)
    rows[0, :samples], rows[1] = (
        torch.from_numpy(clip),
        5 * torch.from_numpy(tiny_models.clip(samples + 1000)),
    )
    mask = torch.arange(samples + 1000)[None] < torch.tensor([[samples], [samples + 1000]])
    batch, real = frontend.compute_log_mel(rows, mask, bins)
    alone, whole = frontend.compute_log_mel(rows[:1, :samples], mask[:1, :samples], bins)
    count = samples // 160
    assert alone.shape == (1, bins, count)
    assert whole.all()
    assert real.sum(dim=1).tolist() == [count, (samples + 1000) // 160]
    np.testing.assert_allclose(alone[0], theirs[:, :count], rtol=0, atol=1e-5)
    np.testing.assert_allclose(batch[0, :, :count], theirs[:, :count], rtol=0, atol=1e-5)
    assert not batch[0, :, count:].any()


@pytest.mark.parametrize("samples", [400, 16_123])
def test_log_mel_equals_its_formula_in_float64(samples):
    clip = tiny_models.clip(samples).astype(np.float64)
    actual, _ = frontend.compute_log_mel(
        torch.from_numpy(clip)[None], torch.ones(1, samples, dtype=torch.bool), 80
    )
    np.testing.assert_allclose(actual[0], tiny_models.log_mel(clip, 80).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_whisper_on_a_whole_window_equals_transformers(seconds):
    """A tiny Whisper whose window is the clip: transformers' own forward then has no padding either."""
    samples = int(seconds * 16_000)
    encoder = build("whisper", max_source_positions=samples // 320)
    clip = tiny_models.clip(samples, seed=3).astype(np.float64)
    with torch.no_grad():
        hidden, _ = run(encoder, clip)
        assert isinstance(encoder, WhisperEncoder)
        features = torch.from_numpy(tiny_models.log_mel(clip, 20).T)[None]
        theirs = encoder(features).last_hidden_state
    np.testing.assert_allclose(hidden, theirs, rtol=0, atol=1e-12)


# Frame arithmetic


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_frames_are_counted_right(family):
    encoder = build(family)
    actual = encoder.config
    with torch.no_grad():
        for samples in (400, 401, 559, 560, 719, 720, 721, 1039, 1040, 1280, 3999):
            hidden, frames = run(encoder, tiny_models.clip(samples))
            assert hidden.shape[1] == frames.shape[1] == encoders.count_frames(actual, samples), samples


@pytest.mark.parametrize("changes", [{}, ODD])
def test_wav2vec2_arithmetic_against_walking_the_stack(changes):
    actual = config("wav2vec2-layer", **changes)
    field = encoders.compute_receptive_field(actual)

    def seen(frame):  # the samples behind a frame, layer by layer down
        first = last = frame
        for kernel, stride in zip(reversed(actual.conv_kernel), reversed(actual.conv_stride), strict=True):
            first, last = first * stride, last * stride + kernel - 1
        return first, last

    assert seen(0) == (0, field - 1)
    assert seen(3)[0] == 3 * encoders.compute_hop(actual)
    for samples in range(3 * field):
        count = 0
        while seen(count)[1] < samples:
            count += 1
        assert encoders.count_frames(actual, samples) == count, samples
    assert encoders.compute_min_samples(actual) == field
    times = encoders.compute_frame_times(actual, 5)
    own = [(seen(i)[0] + seen(i)[1] + 1) / 2 / 16_000 for i in range(5)]
    np.testing.assert_allclose(times, own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["wav2vec2-layer", "whisper"])
def test_a_frame_sees_its_receptive_field_and_no_more(family):
    """Through the convolutions alone: which samples move frame 4."""
    encoder = build(family)
    actual = encoder.config
    clip = torch.from_numpy(tiny_models.clip(6000).astype(np.float64))[None].requires_grad_()
    if family == "whisper":
        # Without the peak's floor, common to all frames: loud noise never comes near it.
        features, _ = frontend.compute_log_mel(clip, torch.ones(1, 6000, dtype=torch.bool), 20)
        stack = encoder.conv2(torch.nn.functional.gelu(encoder.conv1(features)))
    else:
        stack = encoder.feature_extractor(clip)
    stack[0, :, 4].square().sum().backward()
    moved = clip.grad[0].nonzero().flatten()
    width = int(moved[-1] - moved[0]) + 1
    # The window's first sample weighs nothing (Hann, periodic).
    expected = encoders.compute_receptive_field(actual) - (family == "whisper")
    assert width == expected
    center = (int(moved[0]) - (family == "whisper") + int(moved[-1]) + 1) / 2 / 16_000
    assert encoders.compute_frame_times(actual, 5)[4] == pytest.approx(center, abs=1e-9)


def test_paper_encoder_arithmetic():
    settings = dict(encoders.PAPER_ENCODER)
    actual = AutoConfig.for_model(settings.pop("model_type"), **settings)
    assert encoders.count_frames(actual, 192_000) == 599
    assert [encoders.count_frames(actual, n) for n in (0, 1, 399, 400, 719, 720)] == [0, 0, 0, 1, 1, 2]
    assert encoders.compute_hop(actual) == 320
    assert encoders.compute_receptive_field(actual) == encoders.compute_min_samples(actual) == 400
    assert encoders.compute_max_samples(actual) is None
    assert encoders.compute_frame_times(actual, 599)[[0, 1, -1]].tolist() == [0.0125, 0.0325, 11.9725]


def test_whisper_arithmetic():
    actual = config("whisper")
    assert encoders.count_frames(actual, 480_000) == 1500
    assert encoders.compute_hop(actual) == 320
    assert encoders.compute_receptive_field(actual) == 1040
    assert encoders.compute_min_samples(actual) == 400
    assert encoders.compute_max_samples(actual) == 480_000
    assert encoders.compute_frame_times(actual, 3).tolist() == [0.0, 0.02, 0.04]


# What is refused


@pytest.mark.parametrize("family", ["bert", "None", "wav2vec2-bert"])
def test_other_families_are_refused(family):
    with pytest.raises(ModelError, match=rf"family '{family}'; emimic runs wav2vec2, wavlm, hubert"):
        encoders.check_family(family)


def test_building_checks_the_family():
    with pytest.raises(ModelError, match="family 'bert'"):
        encoders.build(AutoConfig.for_model("bert"))


@pytest.mark.parametrize("family", ["wav2vec2-layer", "wavlm"])
def test_adapters_are_refused(family):
    with pytest.raises(ModelError, match="an adapter that merges frames"):
        encoders.build(config(family, add_adapter=True))


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_clips_without_a_frame_are_refused(family):
    with pytest.raises(ModelError, match=r"a clip has 399 samples, the encoder needs at least 400"):
        run(build(family), tiny_models.clip(399), tiny_models.clip(399, seed=1))


@pytest.mark.parametrize("family", tiny_models.INEXACT)
def test_padding_is_refused_where_it_would_change_the_output(family):
    encoder = build(family)
    assert not encoders.is_exact_under_padding(encoder.config)
    with pytest.raises(ModelError, match="would be changed by padding"):
        run(encoder, tiny_models.clip(400), tiny_models.clip(401))


def test_data2vec_would_be_changed_by_padding():
    """Why it is refused: transformers' own masked batch differs from the clip alone."""
    encoder = build("data2vec", feat_extract_norm="layer")
    clip = torch.from_numpy(tiny_models.clip(2000).astype(np.float64))[None]
    padded = torch.nn.functional.pad(clip, (0, 2000))
    mask = (torch.arange(4000) < 2000).long()[None]
    with torch.no_grad():
        alone = encoder(clip).last_hidden_state
        batched = encoder(padded, attention_mask=mask).last_hidden_state[:, : alone.shape[1]]
    assert (alone - batched).abs().max() > 1e-3


def test_huberts_batch_norm_would_be_changed_by_padding():
    encoder = build("hubert", conv_pos_batch_norm=True)
    assert encoders.is_exact_under_padding(config("hubert"))
    with pytest.raises(ModelError, match="would be changed by padding"):
        run(encoder, tiny_models.clip(400), tiny_models.clip(2000))


def test_whisper_refuses_more_than_its_positions():
    encoder = build("whisper", max_source_positions=10)
    run(encoder, tiny_models.clip(3200))
    with pytest.raises(ModelError, match="a clip has 3201 samples, this encoder takes at most 3200"):
        run(encoder, tiny_models.clip(3201))


# SpecAugment


def masks(lengths, *, draws, **changes):
    collected = config("wav2vec2-layer", **changes)
    frames = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    return [layers.draw_time_mask(collected, frames) for _ in range(draws)]


def spans(row, length):
    """Lengths of the runs of masked frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.int().numpy(), [0]])))
    assert not row[length:].any(), "padding is never masked"
    return np.diff(edges)[::2]


def test_spans_lie_in_the_clip_and_short_clips_stay_whole():
    torch.manual_seed(0)
    lengths = [1, 9, 10, 11, 19, 20, 35, 100]
    for drawn in masks(lengths, draws=50, mask_time_prob=0.3):
        for length, row in zip(lengths, drawn, strict=True):
            actual = spans(row, length)
            if length <= 10:
                assert not row.any()
            else:
                assert actual.sum() >= 10
                assert (actual >= 10).all(), "spans may touch, none is cut"


def test_spans_start_anywhere_they_fit():
    torch.manual_seed(0)
    starts = {int(drawn[0].int().argmax()) for drawn in masks([13], draws=200)}
    assert starts == {0, 1, 2, 3}


def test_the_expected_fraction_of_spans():
    torch.manual_seed(0)
    for length, fraction in ((599, 0.05), (45, 0.1)):
        changes = {"mask_time_prob": fraction, "mask_time_min_masks": 0, "mask_time_length": 3}
        drawn = masks([length], draws=2000, **changes)
        masked = np.mean([float(m.float().mean()) for m in drawn])
        expected = expected_fraction(length, fraction, 3)
        assert masked == pytest.approx(expected, rel=0.05)


def expected_fraction(length, fraction, span):
    """Mean masked fraction of spans starting at distinct places: per frame, 1 - P(no start near), over both counts."""
    wanted = fraction * length / span
    places = length - span + 1
    total = 0.0
    for count, odds in ((int(wanted), 1 - wanted % 1), (int(wanted) + 1, wanted % 1)):
        for frame in range(length):
            near = min(frame, places - 1) - max(0, frame - span + 1) + 1
            free = np.prod([(places - near - i) / (places - i) for i in range(count)])
            total += odds * (1 - free) / length
    return total


def test_at_least_the_least_number_of_spans():
    torch.manual_seed(0)
    for drawn in masks([200], draws=50, mask_time_prob=1e-6, mask_time_min_masks=2):
        assert 11 <= int(drawn.sum()) <= 20
    for drawn in masks([15], draws=20, mask_time_prob=1.0, mask_time_min_masks=5):
        assert int(drawn.sum()) == 10, "no more spans than fit side by side"


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_specaugment_acts_in_training_only_and_only_when_wanted(family):
    quiet = {f"{name}_dropout": 0.0 for name in ("hidden", "activation", "attention", "feat_proj")}
    if family == "whisper":
        quiet = {"apply_spec_augment": True}
    else:
        quiet["layerdrop"] = 0.0
    encoder = build(family, mask_time_prob=0.5, **quiet)
    clip = tiny_models.clip(9000)
    with torch.no_grad():
        still = run(encoder, clip)[0]
        encoder.train()
        torch.manual_seed(0)
        moved = run(encoder, clip)[0]
        encoder.config.apply_spec_augment = False
        off = run(encoder, clip)[0]
        encoder.config.apply_spec_augment = True
        encoder.config.mask_time_prob = 0.0
        none = run(encoder, clip)[0]
    assert not torch.allclose(still, moved, atol=1e-3)
    assert torch.allclose(still, off, atol=1e-12)
    assert torch.allclose(still, none, atol=1e-12)


def test_masked_frames_hold_the_learned_vector():
    """What the transformer receives: the vector where masked, the projection elsewhere, alone or padded."""
    encoder = build("wav2vec2-layer", mask_time_prob=0.5).train()
    for dropout in encoder.modules():
        if isinstance(dropout, torch.nn.Dropout):
            dropout.p = 0.0
    received = []
    encoder.encoder.register_forward_pre_hook(lambda module, inputs: received.append(inputs[0].clone()))
    torch.manual_seed(0)
    with torch.no_grad():
        _, frames = run(encoder, tiny_models.clip(9000), tiny_models.clip(7000, seed=1))
    vector = (received[0] == encoder.masked_spec_embed).all(dim=-1)
    assert vector.any()
    assert not (vector & ~frames).any()
    assert not vector[frames].all()


@pytest.mark.parametrize("drop", [0.0, 1.0])
def test_whisper_drops_layers_in_training(drop):
    encoder = build("whisper", encoder_layerdrop=drop).train()
    calls = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        run(encoder, tiny_models.clip(1000))
        assert len(calls) == (0 if drop else 2)
        encoder.eval()
        run(encoder, tiny_models.clip(1000))
    assert len(calls) == (2 if drop else 4)


def test_whispers_spectrum_keeps_its_precision_under_autocast_and_in_bfloat16():
    encoder = build("whisper")
    clip = tiny_models.clip(4000)
    samples, mask = torch.from_numpy(clip)[None], torch.ones(1, 4000, dtype=torch.bool)
    seen = []
    encoder.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        encoder.float()
        exact = encoders.encode(encoder, samples, mask)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = encoders.encode(encoder, samples, mask)[0]
        torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=0)
        encoder.to(torch.bfloat16)
        coarse = encoders.encode(encoder, samples.bfloat16(), mask)[0]
    assert coarse.dtype == torch.bfloat16
    assert (near.float() - exact).abs().max() < 0.1
    assert (coarse.float() - exact).abs().max() < 0.1


@pytest.mark.parametrize("family", ["wav2vec2-layer", "wavlm", "hubert", "data2vec"])
def test_the_convolution_stack_learns_as_transformers_own(family: str) -> None:
    """While learning on a CPU it is computed another way: the same outputs and gradients, to summation order."""
    stack = tiny_models.model(
        family, encoder={"feat_extract_norm": "layer"}
    ).encoder.feature_extractor.double()
    samples = torch.randn(2, 4321, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs, called = [], []
    for layer in stack.conv_layers:
        layer.conv.register_forward_hook(lambda *_: called.append(stack.training))
    for training in (True, False):
        stack.train(training)
        stack.zero_grad()
        made = stack(samples)
        made.sin().sum().backward()
        outputs.append([made, *(parameter.grad.clone() for parameter in stack.parameters())])
    assert called == [False] * 7, "the other way computes no convolution, transformers' own seven"
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_bf16_is_refused_where_cpus_compute_it_wrongly() -> None:
    """Groups of other than 16, 32, ... channels: in bf16 weights, and in autocast; float32 is fine."""
    wide = {"num_conv_pos_embedding_groups": 2}  # 8 channels a group
    model = tiny_models.model("wav2vec2-layer", encoder=wide).eval()
    assert encoders.compute_group_width(model.config.encoder_config) == 8
    clip = torch.zeros(1, 3200)
    model(clip)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ModelError, match="8 channels a group, which some CPUs compute wrongly"),
    ):
        model(clip)
    with pytest.raises(ModelError, match="expected float32: load the model with dtype"):
        model.to(torch.bfloat16)(clip.bfloat16())
