"""Compiled layers have no graph break, and compute what the others do, forward and backward."""

import copy

import pytest
import tiny_models
import torch

from emimic.model.compiled import compile_layers


@pytest.fixture(autouse=True)
def forget() -> None:
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # within torch's tracer
@pytest.mark.parametrize("family", ["wav2vec2-layer", "hubert", "whisper"])
def test_compiled_layers_compute_the_same(family: str) -> None:
    plain = tiny_models.model(family, lstm=False)
    compiled = copy.deepcopy(plain)
    assert compile_layers(compiled.encoder, backend="aot_eager") == 2
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for lengths in ((4000, 3000), (2400, 2400, 2000)):
        samples, mask = torch.zeros(len(lengths), lengths[0]), torch.zeros(len(lengths), lengths[0])
        for row, length in enumerate(lengths):
            samples[row, :length] = torch.from_numpy(tiny_models.clip(length, seed=row))
            mask[row, :length] = 1
        outputs = []
        for model in (plain, compiled):
            model.zero_grad()
            output = model(samples, mask).intensities
            output.square().sum().backward()
            outputs.append((output, [p.grad for p in model.encoder.parameters() if p.grad is not None]))
        torch.testing.assert_close(outputs[1], outputs[0])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
