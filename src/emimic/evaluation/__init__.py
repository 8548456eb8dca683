"""Scores of a trained model, and submission files."""
