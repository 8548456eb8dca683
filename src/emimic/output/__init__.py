"""Predictions as tables, plots, pages and annotation files."""
