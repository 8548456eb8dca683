"""State of the process while it trains: denormals, random generators, threads."""

import contextlib
import sys
from collections.abc import Iterator

import numpy as np
import torch

from emimic.cpus import count_available


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero: the LSTM's backward pass decays into them, 13 times slower on CPUs."""
    before = sys.float_info.min / 2 == 0.0  # torch has no getter
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextlib.contextmanager
def restore_generators() -> Iterator[None]:
    """Restore the program's random generators afterwards; a run's start and each of its steps seed them."""
    before = np.random.get_state()  # noqa: NPY002 - the generator that transformers uses
    # Asking CUDA for its generators would start it, also for a training on the CPU.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


@contextlib.contextmanager
def use_tf32() -> Iterator[None]:
    """Multiply float32 matrices in TF32 on GPUs that have it (10 bits of mantissa); CPUs are not affected."""
    before = torch.get_float32_matmul_precision()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Use `count` CPU threads in torch; None: torch's choice, within the process's CPU quota."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, count_available()) if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
