"""emimic: how strongly a voice expresses six emotions (Emotional Mimicry Intensity from speech)."""

import logging
from typing import TYPE_CHECKING, Any

from emimic.task import EMOTIONS, EmimicError
from emimic.version import __version__

if TYPE_CHECKING:
    import os

    from emimic.inference.predictor import Predictor as Predictor
    from emimic.model.config import EmiConfig as EmiConfig
    from emimic.model.model import EmiModel as EmiModel

__all__ = ["EMOTIONS", "EmiConfig", "EmiModel", "EmimicError", "Predictor", "__version__", "load"]

# Silent unless the program that uses emimic sets logging up: models opened, files, failures, times.
logging.getLogger("emimic").addHandler(logging.NullHandler())

# Resolved at first use, so that `import emimic` costs nothing and needs no torch.
_HOMES = {
    "EmiConfig": "emimic.model.config",
    "EmiModel": "emimic.model.model",
    "Predictor": "emimic.inference.predictor",
}


def load(
    model: "str | os.PathLike[str] | None" = None, *, device: str | None = None, threads: int | None = None
) -> "Predictor":
    """A finished model, ready to hear: `emimic.load()("clip.wav")`.

    model: a folder written by `emimic export` or `emimic train`; None is the model in the package. device: for a run,
    as torch names it. threads: None takes all cores. Raises ModelError when the model can't be used.
    """
    from emimic.inference.predictor import Predictor

    return Predictor(model, device=device, threads=threads)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'emimic' has no attribute {name!r}")
