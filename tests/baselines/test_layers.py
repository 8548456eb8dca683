"""The parts of the compared systems against formulas in NumPy, clip by clip."""

from typing import Any

import layer_formulas
import numpy as np
import pytest
import torch
from torch import nn

from emimic.baselines import layers
from emimic.model.pooling import AttentiveStatistics

Array = np.ndarray


def batch(seed: int = 0, features: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Five clips in double precision: whole, with holes, of one frame, without any, and one that is long."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((5, 12), np.bool_)
    mask[0, :7] = True
    mask[1, [1, 2, 5, 8]] = True
    mask[2, 3] = True
    mask[4] = True
    return torch.from_numpy(rng.standard_normal((5, 12, features))), torch.from_numpy(mask)


def weights(module: nn.Module) -> dict[str, Array]:
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def double(module: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return module


def clips(frames: torch.Tensor, mask: torch.Tensor) -> list[Array]:
    return [row[present].numpy() for row, present in zip(frames, mask, strict=True)]


def test_means_and_statistics() -> None:
    frames, mask = batch()
    means, actual = layers.average(frames, mask).numpy(), layers.compute_statistics(frames, mask).numpy()
    for x, mean, four in zip(clips(frames, mask), means, actual, strict=True):
        four_of = [x.mean(0), np.sqrt(x.var(0) + 1e-5), x.min(0), x.max(0)] if len(x) else [np.zeros(24)]
        wanted = np.concatenate(four_of)
        np.testing.assert_allclose(mean, wanted[:6], atol=1e-12)
        np.testing.assert_allclose(four, wanted, atol=1e-12)


def test_compact_keeps_order() -> None:
    frames, mask = batch()
    moved, present = layers.compact(frames, mask)
    for x, row, own in zip(clips(frames, mask), moved, present, strict=True):
        wanted = x if len(x) else np.zeros((1, 6))
        assert own.tolist() == [i < len(wanted) for i in range(len(own))]
        np.testing.assert_array_equal(row[own].numpy(), wanted)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("learning", [False, True])
def test_the_last_output(kind: Any, learning: bool) -> None:
    frames, mask = batch()
    network = double(kind(6, 5, 2, batch_first=True))
    network.train(learning)
    actual = layers.get_last_output(network, frames, mask).detach().numpy()
    for x, row in zip(clips(frames, mask), actual, strict=True):
        np.testing.assert_allclose(row, layer_formulas.last(x, weights(network), layers=2), atol=1e-12)


def test_tcn() -> None:
    frames, mask = batch()
    network = double(layers.Tcn(6, 4, 3, kernel=3, dropout=0.3))
    w = weights(network)
    actual = network(frames, mask).detach().numpy()
    for x, present, rows in zip(frames.numpy(), mask.numpy(), actual, strict=True):
        np.testing.assert_allclose(rows, layer_formulas.tcn(x, present, w, blocks=3), atol=1e-12)
    for row, count in ((0, 7), (2, 12)):
        alone = network(frames[row : row + 1, :count], mask[row : row + 1, :count]).detach().numpy()
        np.testing.assert_allclose(actual[row, :count], alone[0], atol=1e-12)


def test_attention() -> None:
    frames, mask = batch()
    network = double(layers.Attention(6, 8, layers=2, heads=2, wide=10, dropout=0.2))
    w = weights(network)
    actual = network(frames, mask).detach().numpy()
    for x, present, rows in zip(frames.numpy(), mask.numpy(), actual, strict=True):
        np.testing.assert_allclose(
            rows, layer_formulas.attention(x, present, w, layers=2, heads=2), atol=1e-10
        )


def test_attentive_statistics() -> None:
    frames, mask = batch()
    network = double(AttentiveStatistics(6, 5))
    w = weights(network)
    actual = network(frames, mask).detach().numpy()
    for x, row in zip(clips(frames, mask), actual, strict=True):
        np.testing.assert_allclose(row, layer_formulas.attentive_statistics(x, w), atol=1e-12)


@pytest.mark.parametrize("name", ["tcn", "attention", "pool"])
def test_gradients_are_finite_where_nothing_is_there(name: str) -> None:
    frames, mask = batch()
    frames.requires_grad_()
    network: Any = {
        "tcn": layers.Tcn(6, 8, 2), "attention": layers.Attention(6, 8), "pool": AttentiveStatistics(6),
    }[name].double()  # fmt: skip
    network(frames, mask).square().sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()
    assert not frames.grad[~mask].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
