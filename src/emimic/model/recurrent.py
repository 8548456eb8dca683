"""The LSTM's last outputs while it learns on a CPU: nn.LSTM's weights and formulas, without its cost there.

torch's CPU kernels run a padded batch over its padding, and a packed one with a backward pass that is many times as
slow. Here the clips of a batch, longest first, leave it as they end, so no padding is computed; what a matrix product
can do for all frames at once (input projections, gradients of the weights) is one product each; the gradient of an
input that needs none is left out; and under autocast the products run in bfloat16, everything else in float32.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn


def last_outputs(lstm: nn.LSTM, frames: Tensor, frame_mask: Tensor) -> Tensor:
    """frames (batch, frame, feature), frame_mask (batch, frame), true where real -> (batch, unit).

    What the last layer says at each clip's last frame; dropout between the layers as `lstm` has it.
    """
    counts = frame_mask.sum(dim=1)
    if not lstm.training or frames.device.type != "cpu":
        # Left to right and padded on the right: what stands at the last real frame hasn't seen the padding.
        rows = torch.arange(frames.shape[0], device=frames.device)
        return lstm(frames)[0][rows, counts - 1]  # type: ignore[no-any-return]
    order = counts.argsort(descending=True, stable=True)
    running = (counts[order][None, :] > torch.arange(frames.shape[1])[:, None]).sum(dim=1)
    running = running[running > 0]
    # Frame by frame, each with the clips that still run: (all frames, feature).
    times = torch.arange(len(running)).repeat_interleave(running)
    starts = running.cumsum(0) - running
    ranks = torch.arange(len(times)) - starts[times]
    hidden = frames[order[ranks], times]
    sizes = running.tolist()
    for layer in range(lstm.num_layers):
        if layer and lstm.dropout:
            hidden = nn.functional.dropout(hidden, lstm.dropout)
        hidden = _Layer.apply(hidden, sizes, *lstm.all_weights[layer])  # type: ignore[no-untyped-call]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return hidden[starts[counts - 1] + place]


class _Layer(torch.autograd.Function):
    """One layer over packed frames: (all frames, feature) -> (all frames, unit), with sizes[t] clips at frame t."""

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
            # Of each frame the four gates, in torch's order: let in, forget, candidate, let out.
            gates = (low @ input_weight.t().to(ctx.dtype)).to(weight.dtype).add_(input_bias + bias)
            cells, outputs = gates.new_empty(len(gates), units), gates.new_empty(len(gates), units)
            for size, now, before in _frames(sizes):
                gate = gates[now]
                if before is not None:
                    _add_product(gate, outputs[before][:size], steps)
                gate[:, : 2 * units].sigmoid_()
                gate[:, 2 * units : 3 * units].tanh_()
                gate[:, 3 * units :].sigmoid_()
                enter, forget, candidate, leave = gate.chunk(4, dim=1)
                cell = torch.mul(enter, candidate, out=cells[now])
                if before is not None:
                    cell.addcmul_(forget, cells[before][:size])
                torch.tanh(cell, out=outputs[now]).mul_(leave)
        ctx.sizes = sizes
        ctx.save_for_backward(inputs, input_weight, weight, gates, cells, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, input_weight, weight, gates, cells, outputs = ctx.saved_tensors
        (gradient,) = gradients
        with torch.autocast("cpu", enabled=False):
            low = weight.to(ctx.dtype)
            slopes = torch.empty_like(gates)  # of the loss, by the gates before their squashing
            output = gradient.new_zeros(ctx.sizes[0], weight.shape[1])
            state = torch.zeros_like(output)
            for size, now, before in reversed(list(_frames(ctx.sizes))):
                enter, forget, candidate, leave = gates[now].chunk(4, dim=1)
                by_enter, by_forget, by_candidate, by_leave = slopes[now].chunk(4, dim=1)
                squashed = cells[now].tanh()
                above = gradient[now] + output[:size]
                torch.mul(above, squashed, out=by_leave).mul_(leave).mul_(1 - leave)
                own = state[:size].addcmul_(above.mul_(leave), 1 - squashed.square_())
                torch.mul(own, candidate, out=by_enter).mul_(enter).mul_(1 - enter)
                torch.mul(own, enter, out=by_candidate).mul_(1 - candidate.square())
                if before is None:
                    by_forget.zero_()
                    continue
                torch.mul(own, cells[before][:size], out=by_forget).mul_(forget).mul_(1 - forget)
                own.mul_(forget)
                output[:size] = slopes[now].to(ctx.dtype) @ low
            slow = slopes.to(ctx.dtype)
            across = slow.t()
            parts = [outputs[before][:size] for size, _, before in _frames(ctx.sizes) if before]
            earlier = torch.cat([outputs[:0], *parts])  # clips of one frame have no parts
            by_bias = slopes.sum(dim=0)
            by_inputs = None
            if ctx.needs_input_grad[0]:
                by_inputs = (slow @ input_weight.to(ctx.dtype)).to(inputs.dtype)
            by_input_weight = (across @ inputs.to(ctx.dtype)).to(weight.dtype)
            by_weight = (across[:, ctx.sizes[0] :] @ earlier.to(ctx.dtype)).to(weight.dtype)
        return by_inputs, None, by_input_weight, by_weight, by_bias, by_bias.clone()


def _frames(sizes: list[int]) -> Any:
    """For each frame: its clips, its rows, and the rows of the frame before (None at first)."""
    ends = list(itertools.accumulate(sizes))
    rows = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return zip(sizes, rows, [None, *rows], strict=False)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, the product in the type of `right`."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left.to(right.dtype) @ right)
