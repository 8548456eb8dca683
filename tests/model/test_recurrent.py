"""The LSTM while it learns: outputs and gradients of torch's own, clip by clip, whatever the batch is padded with."""

import numpy as np
import pytest
import tiny_models
import torch
from torch import nn

from emimic.model.recurrent import compute_last_outputs

LENGTHS = (3, 9, 1, 9, 6)


def batch(dtype: torch.dtype = torch.float64, layers: int = 2) -> tuple[nn.LSTM, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    lstm = nn.LSTM(7, 5, layers, batch_first=True).to(dtype)
    mask = torch.arange(11)[None] < torch.tensor(LENGTHS)[:, None]
    frames = torch.randn(len(LENGTHS), 11, 7, dtype=dtype)
    return lstm, frames.masked_fill(~mask[..., None], 99.0), mask


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_outputs_and_gradients_are_those_of_each_clip_alone(layers: int) -> None:
    lstm, frames, mask = batch(layers=layers)
    frames.requires_grad_()
    found = compute_last_outputs(lstm.train(), frames, mask)
    found.sin().sum().backward()
    ours = [frames.grad, *(p.grad for p in lstm.parameters())]
    frames.grad = None
    lstm.zero_grad()
    alone = torch.cat([lstm(frames[i : i + 1, :n])[0][:, -1] for i, n in enumerate(LENGTHS)])
    alone.sin().sum().backward()
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-14)
    for one, other in zip(ours, [frames.grad, *(p.grad for p in lstm.parameters())], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_clips_of_one_frame() -> None:
    lstm, frames, mask = batch()
    compute_last_outputs(lstm.train(), frames[:, :1], mask[:, :1]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in lstm.parameters())
    assert not lstm.weight_hh_l0.grad.any()
    assert lstm.weight_ih_l0.grad.any()


def test_the_formula() -> None:
    lstm, frames, mask = batch()
    with torch.no_grad():
        found = compute_last_outputs(lstm.train(), frames, mask).numpy()
    weights = tiny_models.weights(lstm)
    x = frames[4, :6].numpy()
    for layer in range(2):
        hidden = cell = np.zeros(5)
        outputs = []
        for step in x:
            gates = weights[f"weight_ih_l{layer}"] @ step + weights[f"bias_ih_l{layer}"]
            gates = gates + weights[f"weight_hh_l{layer}"] @ hidden + weights[f"bias_hh_l{layer}"]
            enter, forget, candidate, leave = np.split(gates, 4)
            cell = tiny_models.sigmoid(forget) * cell + tiny_models.sigmoid(enter) * np.tanh(candidate)
            hidden = tiny_models.sigmoid(leave) * np.tanh(cell)
            outputs.append(hidden)
        x = np.stack(outputs)
    np.testing.assert_allclose(found[4], x[-1], atol=1e-13)


def test_a_graph_can_be_walked_twice() -> None:
    lstm, frames, mask = batch()
    found = compute_last_outputs(lstm.train(), frames, mask)
    found.sum().backward(retain_graph=True)
    once = [p.grad.clone() for p in lstm.parameters()]
    found.sum().backward()
    for one, parameter in zip(once, lstm.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 2 * one)


def test_dropout_stands_between_the_layers() -> None:
    lstm, frames, mask = batch()
    lstm.dropout = 0.5
    told = [compute_last_outputs(lstm.train(), frames, mask) for _ in range(2)]
    assert not torch.equal(*told)
    torch.testing.assert_close(*(compute_last_outputs(lstm.eval(), frames, mask) for _ in range(2)))
    single, frames, mask = batch(layers=1)
    single.dropout = 0.5  # no layer follows
    assert torch.equal(*(compute_last_outputs(single.train(), frames, mask) for _ in range(2)))


def test_under_autocast_products_are_in_bfloat16_and_sums_in_float32() -> None:
    lstm, frames, mask = batch(torch.float32)
    exact = compute_last_outputs(lstm.train(), frames, mask)
    exact.sum().backward()
    wanted = [p.grad.clone() for p in lstm.parameters()]
    lstm.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        found = compute_last_outputs(lstm, frames, mask)
    found.sum().backward()
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.02
    for one, parameter in zip(wanted, lstm.parameters(), strict=True):
        assert (parameter.grad - one).norm() < 0.03 * one.norm()
