"""Mimicry: the similarity of two recordings' timelines, who leads, and whether both exceed chance.

docs/mimicry.md explains the numbers and their limits.
"""

from emimic.mimicry.compare import compare, compare_all
from emimic.mimicry.results import Comparison, MimicryError, Report, Settings
from emimic.mimicry.voices import compare_voices

__all__ = ["Comparison", "MimicryError", "Report", "Settings", "compare", "compare_all", "compare_voices"]
