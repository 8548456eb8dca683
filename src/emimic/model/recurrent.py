"""Last outputs of an LSTM while training on a CPU: nn.LSTM's weights and formulas, without its cost there.

torch's CPU kernels compute a padded batch's padding too, and the backward pass of a packed one is many times slower.
Here the clips of a batch, longest first, drop out as they end, so that no padding is computed. Input projections and
gradients of weights are one matrix product each over all frames. The gradient of an input that needs none is skipped.
Under autocast the products are in bfloat16, all else in float32.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn


def compute_last_outputs(lstm: nn.LSTM, frames: Tensor, frame_mask: Tensor) -> Tensor:
    """Return the last layer's output at each clip's last real frame, with the LSTM's dropout between layers.

    Args:
        lstm: batch-first, of one direction.
        frames: (batch, frame, feature), padded on the right.
        frame_mask: (batch, frame), true at real frames, at least one per clip.

    Returns:
        (batch, unit).
    """
    counts = frame_mask.sum(dim=1)
    if not lstm.training or frames.device.type != "cpu":
        # Left to right and padded on the right: the last real frame's output doesn't depend on the padding.
        rows = torch.arange(frames.shape[0], device=frames.device)
        return lstm(frames)[0][rows, counts - 1]  # type: ignore[no-any-return]
    order = counts.argsort(descending=True, stable=True)
    running = (counts[order][None, :] > torch.arange(frames.shape[1])[:, None]).sum(dim=1)
    running = running[running > 0]
    # All frames of the clips that still run, frame by frame: (all frames, feature).
    times = torch.arange(len(running)).repeat_interleave(running)
    starts = running.cumsum(0) - running
    ranks = torch.arange(len(times)) - starts[times]
    hidden = frames[order[ranks], times]
    sizes = running.tolist()
    for layer in range(lstm.num_layers):
        if layer and lstm.dropout:
            hidden = nn.functional.dropout(hidden, lstm.dropout)
        hidden = _Layer.apply(hidden, sizes, *lstm.all_weights[layer])  # type: ignore[no-untyped-call]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return hidden[starts[counts - 1] + rank]


class _Layer(torch.autograd.Function):
    """LSTM layer over packed frames, sizes[t] clips at frame t: (all frames, feature) -> (all frames, unit)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        sizes: list[int],
        input_weight: Tensor,
        weight: Tensor,
        input_bias: Tensor,
        bias: Tensor,
    ) -> Tensor:
        ctx.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
        units = weight.shape[1]
        with torch.autocast("cpu", enabled=False):
            low, steps = inputs.to(ctx.dtype), weight.t().contiguous().to(ctx.dtype)
            # Four gates per frame, in torch's order: input, forget, candidate, output.
            gates = (low @ input_weight.t().to(ctx.dtype)).to(weight.dtype).add_(input_bias + bias)
            states, outputs = gates.new_empty(len(gates), units), gates.new_empty(len(gates), units)
            for size, now, before in _list_frames(sizes):
                gate = gates[now]
                if before is not None:
                    _add_product(gate, outputs[before][:size], steps)
                gate[:, : 2 * units].sigmoid_()
                gate[:, 2 * units : 3 * units].tanh_()
                gate[:, 3 * units :].sigmoid_()
                input_gate, forget, candidate, output_gate = gate.chunk(4, dim=1)
                state = torch.mul(input_gate, candidate, out=states[now])
                if before is not None:
                    state.addcmul_(forget, states[before][:size])
                torch.tanh(state, out=outputs[now]).mul_(output_gate)
        ctx.sizes = sizes
        ctx.save_for_backward(inputs, input_weight, weight, gates, states, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, input_weight, weight, gates, states, outputs = ctx.saved_tensors
        (gradient,) = gradients
        with torch.autocast("cpu", enabled=False):
            low = weight.to(ctx.dtype)
            slopes = torch.empty_like(gates)  # of the loss, by the gates before their nonlinearities
            output = gradient.new_zeros(ctx.sizes[0], weight.shape[1])
            state_slope = torch.zeros_like(output)
            for size, now, before in reversed(list(_list_frames(ctx.sizes))):
                input_gate, forget, candidate, output_gate = gates[now].chunk(4, dim=1)
                by_input, by_forget, by_candidate, by_output = slopes[now].chunk(4, dim=1)
                squashed = states[now].tanh()
                above = gradient[now] + output[:size]
                torch.mul(above, squashed, out=by_output).mul_(output_gate).mul_(1 - output_gate)
                slope = state_slope[:size].addcmul_(above.mul_(output_gate), 1 - squashed.square_())
                torch.mul(slope, candidate, out=by_input).mul_(input_gate).mul_(1 - input_gate)
                torch.mul(slope, input_gate, out=by_candidate).mul_(1 - candidate.square())
                if before is None:
                    by_forget.zero_()
                    continue
                torch.mul(slope, states[before][:size], out=by_forget).mul_(forget).mul_(1 - forget)
                slope.mul_(forget)
                output[:size] = slopes[now].to(ctx.dtype) @ low
            slow = slopes.to(ctx.dtype)
            across = slow.t()
            parts = [outputs[before][:size] for size, _, before in _list_frames(ctx.sizes) if before]
            earlier = torch.cat([outputs[:0], *parts])  # clips of one frame have no parts
            by_bias = slopes.sum(dim=0)
            by_inputs = None
            if ctx.needs_input_grad[0]:
                by_inputs = (slow @ input_weight.to(ctx.dtype)).to(inputs.dtype)
            by_input_weight = (across @ inputs.to(ctx.dtype)).to(weight.dtype)
            by_weight = (across[:, ctx.sizes[0] :] @ earlier.to(ctx.dtype)).to(weight.dtype)
        return by_inputs, None, by_input_weight, by_weight, by_bias, by_bias.clone()


def _list_frames(sizes: list[int]) -> Any:
    """Return for each frame its number of clips, its rows, and the previous frame's rows (None at first)."""
    ends = list(itertools.accumulate(sizes))
    rows = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return zip(sizes, rows, [None, *rows], strict=False)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total` in place; the product has the type of `right`."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left.to(right.dtype) @ right)
