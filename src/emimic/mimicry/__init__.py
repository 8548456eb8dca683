"""Seed and mimic: how alike two recordings' curves are over time, who leads, and whether it is more than chance.

What the numbers can and can't mean is in docs/mimicry.md.
"""

from emimic.mimicry.compare import compare, compare_all
from emimic.mimicry.results import Comparison, MimicryError, Report, Settings

__all__ = ["Comparison", "MimicryError", "Report", "Settings", "compare", "compare_all"]
