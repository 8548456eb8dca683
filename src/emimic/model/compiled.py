"""Compilation of an encoder's transformer layers by torch.compile, without a graph break.

Only the layers: what is around them (LayerDrop, SpecAugment, lengths of clips) decides in Python, and is cheap.
"""

from typing import Any

import torch
from torch import nn


def compile_layers(encoder: nn.Module, backend: str = "inductor") -> int:
    """Compile each transformer layer of an encoder as one graph, for batches of any shape; weights stay the same.

    Args:
        encoder: of `encoders.build`.
        backend: torch's name; inductor needs a C++ compiler.

    Returns:
        The number of layers.
    """
    inner: Any = getattr(encoder, "encoder", encoder)  # Whisper's has its layers itself
    for layer in inner.layers:
        layer.forward = torch.compile(layer.forward, fullgraph=True, dynamic=True, backend=backend)
    return len(inner.layers)
