"""Grids of training runs, and the paper's tables."""
