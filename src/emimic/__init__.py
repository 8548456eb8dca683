"""emimic: how strongly a voice expresses six emotions (Emotional Mimicry Intensity from speech)."""

from emimic.task import EMOTIONS

__all__ = ["EMOTIONS", "__version__"]
__version__ = "0.1.0"
