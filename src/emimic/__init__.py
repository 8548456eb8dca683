"""emimic: prediction of emotion intensities from voices (Emotional Mimicry Intensity)."""

import logging
from typing import TYPE_CHECKING, Any

from emimic.task import EMOTIONS, EmimicError
from emimic.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from emimic.inference.predictor import Predictor as Predictor
    from emimic.inference.words import WordSource as WordSource
    from emimic.model.config import EmiConfig as EmiConfig
    from emimic.model.model import EmiModel as EmiModel

__all__ = [
    "EMOTIONS",
    "EmiConfig",
    "EmiModel",
    "EmimicError",
    "Predictor",
    "WordSource",
    "__version__",
    "load",
]

# No log output unless the program that uses emimic configures logging.
logging.getLogger("emimic").addHandler(logging.NullHandler())

# Imported at first use, so that `import emimic` is fast and needs no torch.
_MODULES = {
    "EmiConfig": "emimic.model.config",
    "EmiModel": "emimic.model.model",
    "Predictor": "emimic.inference.predictor",
    "WordSource": "emimic.inference.words",
}


def load(
    model: "str | os.PathLike[str] | None" = None,
    *,
    device: str | None = None,
    threads: int | None = None,
    words: "WordSource | None" = None,
    without: "Sequence[str]" = (),
) -> "Predictor":
    """Load a model for prediction: `emimic.load()("clip.wav")`. Threads may use the same one.

    Args:
        model: a folder written by `emimic export` or `emimic train`; None: the model in the package.
        device: of a run folder, as torch names it; None: a GPU where there is one.
        threads: CPU threads; None: all cores.
        words: where words of recordings come from, see `Predictor`.
        without: "text": leave out the words of a model that takes some.

    Raises:
        ModelError: the model can't be used.
    """
    from emimic.inference.predictor import Predictor

    return Predictor(model, device=device, threads=threads, words=words, without=without)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'emimic' has no attribute {name!r}")
