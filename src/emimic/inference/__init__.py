"""Predictions of a finished model for recordings of any length."""
