"""emimic: how strongly a voice expresses six emotions (Emotional Mimicry Intensity from speech)."""

from typing import TYPE_CHECKING, Any

from emimic.task import EMOTIONS, EmimicError

if TYPE_CHECKING:
    from emimic.model import EmiConfig as EmiConfig
    from emimic.model import EmiModel as EmiModel
    from emimic.service.predict import Predictor as Predictor

__all__ = ["EMOTIONS", "EmiConfig", "EmiModel", "EmimicError", "Predictor", "__version__", "load"]
__version__ = "0.1.0"

# Resolved at first use, so that `import emimic` costs nothing and needs no torch.
_HOMES = {
    "EmiConfig": "emimic.model",
    "EmiModel": "emimic.model",
    "Predictor": "emimic.service.predict",
}


def load(model: str) -> "Predictor":
    """A finished model, ready to hear files: `emimic.load("runs/paper").files(["clip.wav"])`."""
    from emimic.service.predict import Predictor

    return Predictor(model)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'emimic' has no attribute {name!r}")
