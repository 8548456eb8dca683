"""A study: many sessions against each other, by group (`emimic mimicry --study`)."""

from emimic.mimicry.study.analysis import analyze
from emimic.mimicry.study.results import Study
from emimic.mimicry.study.session import Session

__all__ = ["Session", "Study", "analyze"]
